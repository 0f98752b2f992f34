//! The ports of a registrar, open or not.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::Options;
use crate::agents::wire::{Pit, PortHold, Wire};
use crate::flow::Transport;

/// The ports that a registrar has from start to end, whether they are open or not.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) tcp: PortHold,
    /// The same number as for TCP.
    udp: PortHold,
    pub(super) tls: Option<PortHold>,
}

impl Ports {
    pub(super) fn take(options: &Options) -> io::Result<Ports> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut last = None;
        for _ in 0..16 {
            let tcp = PortHold::new(Transport::Tcp, local(options.ports.0))?;
            match PortHold::new(Transport::Udp, tcp.addr) {
                Ok(udp) => {
                    let tls = options.tls.is_some().then(|| PortHold::new(Transport::Tls, local(options.ports.1)));
                    return Ok(Ports { tcp, udp, tls: tls.transpose()? });
                }
                Err(taken) => last = Some(taken),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    pub(super) fn open(&self, wire: &Wire, options: &Options) -> io::Result<()> {
        wire.listen(self.tcp.addr, None)?;
        if let Some((tls, config)) = self.tls.as_ref().zip(options.tls.clone()) {
            wire.listen(tls.addr, Some(config))?;
        }
        wire.bind_udp(self.udp.addr, true).map(|_| ())
    }

    /// Datagrams are received, connections meet no answer.
    pub(super) async fn swallow(&self, wire: &Wire) -> io::Result<Vec<Pit>> {
        wire.bind_udp(self.udp.addr, true)?;
        let mut pits = vec![Pit::new(self.tcp.addr).await?];
        if let Some(tls) = &self.tls {
            pits.push(Pit::new(tls.addr).await?);
        }
        Ok(pits)
    }
}

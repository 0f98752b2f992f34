//! A Holdline before one registrar that answers every REGISTER in the same words.

use std::sync::Arc;

use holdline::agents::dns::{self, Srv};
use holdline::agents::registrar::{Behaviour, Options, Reaction, Registrar};
use holdline::agents::sip;
use holdline::flow::Transport;

use super::process::Holdline;

/// All of it. The registrar and the DNS server live as long as this does.
pub(super) struct Mocked {
    pub holdline: Holdline,
    /// Holdline's state directory.
    pub folder: tempfile::TempDir,
    _registrar: Registrar,
    _dns: dns::Server,
}

/// A registrar called `a.pbx.example` in DNS that answers with this status and reason phrase; further names in DNS, in this
/// order, behind which there is nobody.
pub(super) async fn mocked(further: &[&str], status: u16, reason: &str, arguments: &[&str]) -> Mocked {
    let registrar = Registrar::start(Options::named("a")).unwrap();
    let reason = reason.to_owned();
    let answer = move |message: &sip::Message| {
        let via = message.list("Via").first().map(|via| (*via).to_owned()).unwrap_or_default();
        let written = sip::response(message, &via, "tag", status, &[], b"");
        let text = String::from_utf8_lossy(&written).into_owned();
        let (_, rest) = text.split_once("\r\n").unwrap();
        Reaction::Send(format!("SIP/2.0 {status} {reason}\r\n{rest}").into_bytes().into())
    };
    registrar.behave(Behaviour::Custom(Arc::new(answer))).await.unwrap();
    let dns = dns::Server::start().await.unwrap();
    dns.set_loopback("a.pbx.example", 3600);
    let port = registrar.addr(Transport::Udp).port();
    let names = std::iter::once(&"a.pbx.example").chain(further);
    let records: Vec<Srv> = (10..).zip(names).map(|(priority, name)| Srv::new(priority, 0, port, name)).collect();
    dns.set_srv("_sip._udp.pbx.example", 3600, &records);
    let folder = tempfile::tempdir().unwrap();
    let mut all = vec![
        "--srv=_sip._udp.pbx.example".to_owned(),
        format!("--nameserver={}", dns.addr()),
        format!("--state-dir={}", folder.path().display()),
    ];
    all.extend(arguments.iter().map(ToString::to_string));
    let holdline = Holdline::start(&all).await;
    holdline.until_page("/readyz", 200).await;
    Mocked { holdline, folder, _registrar: registrar, _dns: dns }
}

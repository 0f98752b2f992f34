//! Threads for TLS.
//!
//! A handshake is milliseconds of arithmetic, and after a power cut thousands of them come at once. They and the records that follow
//! are worked on here, so that no datagram waits for them: the signalling thread sees whole messages, by the same channels as
//! from a TCP connection. Without TLS on either side there is no such thread.

use std::io;

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

use super::Settings;
use crate::flow::Transport;

/// The threads, if anything here speaks TLS. Their tasks end with it.
#[derive(Debug)]
pub(super) struct Workers(Option<Runtime>);

impl Workers {
    /// As many threads as the settings say. Error: the system gives no thread.
    pub(super) fn start(settings: &Settings) -> io::Result<Workers> {
        let listens = settings.listen.iter().any(|listen| listen.transport == Transport::Tls);
        if !listens && settings.upstream_transport != Transport::Tls {
            return Ok(Workers(None));
        }
        let threads = settings.io_threads.unwrap_or_else(default_threads).max(1);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("holdline-tls")
            .enable_io()
            .enable_time()
            .build()?;
        Ok(Workers(Some(runtime)))
    }

    /// Where the connections of a transport are worked on.
    pub(super) fn of(&self, transport: Transport) -> Handle {
        match &self.0 {
            Some(runtime) if transport == Transport::Tls => runtime.handle().clone(),
            _ => Handle::current(),
        }
    }

    /// A socket that is taken over in here is waited for by those threads.
    pub(super) fn enter(&self, transport: Transport) -> Option<EnterGuard<'_>> {
        self.0.as_ref().filter(|_| transport == Transport::Tls).map(Runtime::enter)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // The signalling thread waits for nothing; what was queued has been written by now, see `Transports::finish`.
            runtime.shutdown_background();
        }
    }
}

/// One core is the signalling thread's.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Listen, UpstreamBind};

    #[test]
    fn there_are_threads_where_there_is_tls() {
        let any = "127.0.0.1:0".parse().expect("literal");
        let upstream = || UpstreamBind { addr: any, advertise: None };
        let started = |listens: Transport, towards: Transport| {
            let listen = vec![Listen { transport: listens, addr: any, advertise: None }];
            Workers::start(&Settings::new(listen, upstream(), towards)).expect("threads").0.is_some()
        };
        assert!(!started(Transport::Udp, Transport::Tcp));
        assert!(started(Transport::Tls, Transport::Udp));
        assert!(started(Transport::Udp, Transport::Tls));
    }
}

//! The TLS half of a probe: which certificate for which name, and what each setting would say to it.

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::dial::{Probe, failure};
use super::plain::plain;
use super::report::{Failure, TlsLook};
use crate::transport::Verify;
use crate::transport::tls::{Certificate, Handshaken, SniName};

/// A handshake that was completed, by the setting's own SNI or the other one.
pub(super) struct Shown {
    pub(super) shaken: Handshaken,
    /// Why the setting's own SNI did not do; what was shown then was shown for the target's.
    pub(super) refused: Option<Failure>,
}

impl Probe {
    /// By the SNI the setting sends. Some servers end the handshake at a name they do not know: then by the target's.
    pub(super) async fn handshake(&self, deadline: Instant, stream: TcpStream) -> Result<Shown, Failure> {
        let own = match self.shake(deadline, sni_of(self.verify), stream).await {
            Ok(shaken) => return Ok(Shown { shaken, refused: None }),
            Err(own) if own.reason == "handshake" && self.has_other_name() => own,
            Err(own) => return Err(own),
        };
        let Ok(stream) = self.connect(deadline, None).await else { return Err(own) };
        match self.shake(deadline, SniName::Target, stream).await {
            Ok(shaken) => Ok(Shown { shaken, refused: Some(own) }),
            Err(_) => Err(own),
        }
    }

    async fn shake(&self, deadline: Instant, sni: SniName, stream: TcpStream) -> Result<Handshaken, Failure> {
        let Some(inspector) = &self.inspector else {
            return Err(failure("tls", "error", "TLS was not set up".to_owned()));
        };
        match timeout_at(deadline, inspector.connect(self.domain.as_deref(), &self.host, sni, stream)).await {
            Ok(shaken) => shaken.map_err(|why| failure("tls", "handshake", format!("TLS handshake: {}", plain(&why)))),
            Err(_) => {
                let text = format!("TCP connects, but no TLS handshake within {}; is it a TLS port?", self.seconds());
                Err(failure("tls", "timeout", text))
            }
        }
    }

    /// Servers choose a certificate by SNI. Where the one for the domain does not do, what does the one for the target say?
    pub(super) async fn second_look(&self, deadline: Instant, first: &Certificate) -> Option<Certificate> {
        let domain_does = first.judged(Verify::Domain)?.is_ok();
        if domain_does || !self.has_other_name() {
            return None;
        }
        let stream = self.connect(deadline, None).await.ok()?;
        self.shake(deadline, SniName::Target, stream).await.ok().map(|shaken| shaken.certificate)
    }

    /// The target is asked for by another name than the domain, if that helps.
    fn has_other_name(&self) -> bool {
        self.verify != Verify::Target && self.domain.as_ref().is_some_and(|domain| *domain != self.host)
    }

    /// `second`: what was shown for the target's SNI, where that was asked for, too. `refused`: as of [`Shown`].
    pub(super) fn tls_look(
        &self,
        (protocol, cipher, sni): (String, String, Option<String>),
        shown: &Certificate,
        second: Option<&Certificate>,
        refused: Option<Failure>,
    ) -> TlsLook {
        let satisfied = |verify| {
            let certificate = match verify {
                Verify::Target => second.unwrap_or(shown),
                Verify::Domain | Verify::Either if refused.is_some() => return false,
                Verify::Domain | Verify::Either => shown,
            };
            certificate.judged(verify).is_some_and(Result::is_ok)
        };
        let all = [Verify::Domain, Verify::Target, Verify::Either];
        let satisfies: Vec<String> = all.into_iter().filter(|v| satisfied(*v)).map(|v| v.as_str().to_owned()).collect();
        let judged = shown.judged(self.verify).and_then(|judged| judged.as_ref().err()).map(|why| plain_long(why));
        let refusal = refused.map(|failure| failure.text).or(judged);
        let (not_before, not_after) = shown.validity;
        TlsLook {
            protocol,
            cipher,
            sni: sni.map(|sni| plain(&sni)),
            names: shown.names.iter().map(|name| plain(name)).collect(),
            subject: plain(&shown.subject),
            issuer: plain(&shown.issuer),
            self_signed: shown.self_signed,
            not_before,
            not_after,
            days_left: (not_after - self.now as i64).div_euclid(86_400),
            accepted: refusal.is_none(),
            satisfies,
            refusal,
        }
    }
}

/// What this setting sends.
fn sni_of(verify: Verify) -> SniName {
    match verify {
        Verify::Domain | Verify::Either => SniName::Domain,
        Verify::Target => SniName::Target,
    }
}

/// A refusal lists names and settings: longer than one name, still bounded by who wrote it.
fn plain_long(text: &str) -> String {
    let words: Vec<String> = text.split(' ').map(plain).collect();
    words.join(" ")
}

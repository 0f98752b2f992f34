//! Bindings to and from the store, so that a call finds its phone after a restart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bindings::{Binding, Bindings, LONGEST, Reach};
use super::contact::Terms;
use crate::flow::{SocketId, Transport};
use crate::proxy::marks::{BindingId, Key};

/// One binding, as far as it is needed to reach the handset again after a restart. Plain text, and a clock time instead of
/// a remaining one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBinding {
    /// The user part that Holdline gave it.
    pub id: String,
    /// Address of record.
    pub aor: String,
    /// The handset's own Contact URI.
    pub contact: String,
    /// Label of the target it is registered at.
    pub target: String,
    /// `udp`, `tcp`, `tls`: what the handset speaks.
    pub transport: String,
    /// Where the handset is reached.
    pub remote: SocketAddr,
    /// Holdline's address that it was heard on.
    pub local: SocketAddr,
    /// Number of the listener.
    pub socket: u16,
    /// Seconds since 1970.
    pub expires_at: u64,
    /// Its User-Agent, if it said.
    #[serde(default)]
    pub user_agent: String,
    /// Seconds that it asked for of its own accord; 0 where that is not known.
    #[serde(default)]
    pub wanted: u32,
    /// Seconds that it was told last.
    #[serde(default)]
    pub told: u32,
}

impl Bindings {
    /// What to store of a confirmed binding. `unix` is `now` in seconds since 1970.
    #[must_use]
    pub fn export(&self, id: &BindingId, now: Instant, unix: u64) -> Option<StoredBinding> {
        let binding = self.get(id).filter(|binding| binding.confirmed)?;
        let (socket, local, remote) = match binding.reach {
            Reach::Udp { socket, local, to, .. } => (socket, local, to),
            // Nothing to come back to.
            Reach::Conn(_) | Reach::Lost => (SocketId(0), SocketAddr::from(([0; 4], 0)), binding.source),
        };
        Some(StoredBinding {
            id: id.to_string(),
            aor: binding.aor.to_string(),
            contact: String::from_utf8_lossy(&binding.contact).into_owned(),
            target: binding.target.to_string(),
            transport: binding.transport.to_string(),
            remote,
            local,
            socket: socket.0,
            expires_at: unix.saturating_add(binding.expires.saturating_duration_since(now).as_secs()),
            user_agent: binding.user_agent.to_string(),
            wanted: binding.terms.wanted,
            told: binding.terms.told,
        })
    }

    /// Takes a binding over from before a restart. `socket` is the UDP listener that has its local address now; without one,
    /// and over TCP and TLS, it is lost until the phone registers again. A UDP phone counts as behind NAT until then.
    ///
    /// False for one that is left out: of another key, expired, damaged, known already, or without room.
    pub fn import(
        &mut self,
        stored: &StoredBinding,
        key: &Key,
        socket: Option<SocketId>,
        now: Instant,
        unix: u64,
    ) -> bool {
        let Some(id) = key.verify(stored.id.as_bytes()) else { return false };
        let Some(transport) = Transport::ALL.into_iter().find(|t| t.as_str() == stored.transport) else { return false };
        let remaining = stored.expires_at.saturating_sub(unix).min(u64::from(LONGEST));
        let contact = stored.contact.as_bytes();
        let damaged = contact.is_empty() || contact.iter().any(|byte| matches!(byte, 0..=b' ' | b'<' | b'>' | 0x7f));
        if remaining == 0 || damaged || self.get(&id).is_some() || self.len() >= self.limit() {
            return false;
        }
        let aor: Arc<str> = stored.aor.as_str().into();
        if self.make_room_in_aor(&aor).is_err() {
            return false;
        }
        let reach = match (transport, socket) {
            (Transport::Udp, Some(socket)) => Reach::Udp { socket, local: stored.local, to: stored.remote, nat: true },
            (Transport::Udp, None) | (Transport::Tcp | Transport::Tls, _) => Reach::Lost,
        };
        let binding = Binding {
            id,
            aor,
            contact: contact.into(),
            reach,
            source: stored.remote,
            transport,
            target: stored.target.as_str().into(),
            expires: now + Duration::from_secs(remaining),
            confirmed: true,
            user_agent: stored.user_agent.as_str().into(),
            last_status: None,
            terms: Terms { wanted: stored.wanted, told: stored.told },
        };
        self.put(binding, now);
        true
    }
}

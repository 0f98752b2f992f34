//! A new request: validated (RFC 3261 §16.3), routed (§16.4, §16.5) and handed on.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::bindings::Reach;
use super::contact;
use super::context::{Arrival, Context, Kind, Registering};
use super::core::Core;
use super::identity::BindingId;
use super::reach;
use crate::flow::{Flow, Side};
use crate::message::{Edit, Message, Method, Name, NameAddr, Uri};
use crate::metrics::Origin;
use crate::transaction::ServerId;

/// Where a request that is not a REGISTER goes.
#[derive(Debug)]
pub(super) enum Destination {
    /// The active target.
    Active,
    /// The target that a dialog was set up at.
    Target(Arc<str>),
    /// A handset. `contact` becomes the Request-URI; `None` where upstream named the handset by Path, or in a dialog.
    Handset { id: BindingId, reach: Reach, contact: Option<Box<[u8]>> },
}

/// A request that is not forwarded, and its answer.
#[derive(Debug)]
struct Refusal {
    status: u16,
    phrase: &'static str,
    header: Option<(&'static str, String)>,
}

impl Refusal {
    fn new(status: u16, phrase: &'static str) -> Self {
        Refusal { status, phrase, header: None }
    }
}

impl Core {
    /// A request with a server transaction of its own. ACK and CANCEL never come here.
    pub(super) fn new_request(
        &mut self,
        side: Side,
        server: ServerId,
        request: Message,
        arrival: Arrival,
        now: Instant,
    ) {
        let routed = match side {
            Side::Phone => self.route_up(&request, &arrival, now),
            Side::Upstream => self.route_down(&request, &arrival),
        };
        let refusal = match routed {
            Ok(Some(_)) if side == Side::Phone && request.method() == Method::Register => {
                match contact::aor(&request) {
                    Some(aor) => {
                        self.register_request(server, request, arrival, &aor, now);
                        return;
                    }
                    None => Refusal::new(400, "Bad To URI"),
                }
            }
            Ok(Some(destination)) => {
                self.relay_request(server, request, arrival, &destination, now);
                return;
            }
            Ok(None) => Refusal::new(200, "OK"),
            Err(refusal) => refusal,
        };
        self.refuse_new(side, server, &request, &arrival, &refusal, now);
    }

    fn refuse_new(
        &mut self,
        side: Side,
        server: ServerId,
        request: &Message,
        arrival: &Arrival,
        refusal: &Refusal,
        now: Instant,
    ) {
        tracing::debug!(call_id = %request.call_id_shown(), status = refusal.status, reason = refusal.phrase, "refused");
        self.metrics.responses(side, request.method(), refusal.status, Origin::Local).inc();
        let headers: SmallVec<[(&str, &str); 1]> =
            refusal.header.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let bytes = self.reply(request, refusal.status, refusal.phrase, &headers, arrival.source);
        self.transactions.respond(server, refusal.status, bytes, now);
    }

    /// A handset's request: always to the active target, whatever its Routes say. `None`: it is for Holdline itself.
    fn route_up(&mut self, request: &Message, arrival: &Arrival, now: Instant) -> Result<Option<Destination>, Refusal> {
        self.validate(Side::Phone, request)?;
        let buf = request.bytes();
        let local = self.ends(arrival.flow).map(|(local, _)| local);
        if request.method() == Method::Options
            && let Some(uri) = Uri::parse(buf, request.request_uri())
            && uri.user.is_none()
            && self.names.is_ours(Side::Phone, uri.host.of(buf), uri.port, local)
        {
            return Ok(None);
        }
        if request.max_forwards() == Some(0) {
            return Err(Refusal::new(483, "Too Many Hops"));
        }
        if self.draining && is_new_work(request) {
            return Err(Refusal {
                header: Some(("Retry-After", "5".to_owned())),
                ..Refusal::new(503, "Holdline is stopping")
            });
        }
        if request.first(Name::Route).is_some() {
            let popped = self.names.pop_routes(request, &mut Edit::new(request), &self.key, local);
            if popped.forged {
                return Err(Refusal::new(403, "Not a Route of this Holdline"));
            }
            if popped.foreign {
                self.note_foreign_route(request, arrival.source, now);
            }
        }
        Ok(Some(self.dialog_target(request).map_or(Destination::Active, Destination::Target)))
    }

    /// The target of the dialog that a handset's request belongs to.
    fn dialog_target(&self, request: &Message) -> Option<Arc<str>> {
        request.to_tag()?;
        let mark = self.dialog_mark(request)?;
        self.upstream.target_numbered(mark.target).map(|target| target.label.clone())
    }

    /// A request of upstream: to the handset that our Contact or our Path names, and to nobody else.
    fn route_down(&self, request: &Message, arrival: &Arrival) -> Result<Option<Destination>, Refusal> {
        self.validate(Side::Upstream, request)?;
        let buf = request.bytes();
        let local = self.ends(arrival.flow).map(|(local, _)| local);
        if self.names.top_route_is_forged(request, &self.key, local) {
            return Err(Refusal::new(403, "Not a Route of this Holdline"));
        }
        let uri = Uri::parse(buf, request.request_uri());
        let by_route = request.list(Name::Route).next().and_then(|element| {
            let route = NameAddr::parse(buf, element.span)?;
            let user = Uri::parse(buf, route.uri)?.user?;
            self.key.verify(user.of(buf))
        });
        if let Some(mark) = self.dialog_mark(request) {
            if request.max_forwards() == Some(0) {
                return Err(Refusal::new(483, "Too Many Hops"));
            }
            return self.handset(&mark.binding, true).map(Some);
        }
        let by_uri = uri.as_ref().and_then(|uri| uri.user).and_then(|user| self.key.verify(user.of(buf)));
        let Some(id) = by_route.or(by_uri) else {
            let ours = uri.is_some_and(|uri| {
                uri.user.is_none() && self.names.is_ours(Side::Upstream, uri.host.of(buf), uri.port, local)
            });
            if request.method() == Method::Options && ours {
                return Ok(None);
            }
            return Err(Refusal::new(404, "Not one of this Holdline's handsets"));
        };
        if request.max_forwards() == Some(0) {
            return Err(Refusal::new(483, "Too Many Hops"));
        }
        if self.draining && is_new_work(request) {
            return Err(Refusal {
                header: Some(("Retry-After", "5".to_owned())),
                ..Refusal::new(503, "Holdline is stopping")
            });
        }
        self.handset(&id, by_route.is_some()).map(Some)
    }

    fn handset(&self, id: &BindingId, by_path: bool) -> Result<Destination, Refusal> {
        let Some(binding) = self.bindings.get(id) else {
            return Err(Refusal::new(404, "Handset not registered here"));
        };
        let gone = match &binding.reach {
            Reach::Lost => true,
            Reach::Conn(conn) => self.conns.get(*conn).is_none(),
            Reach::Udp { .. } => false,
        };
        if gone {
            let (status, phrase) = self.lost_flow();
            return Err(Refusal::new(status, phrase));
        }
        let contact = (!by_path).then(|| binding.contact.clone());
        Ok(Destination::Handset { id: *id, reach: binding.reach, contact })
    }

    /// What a proxy must look at before it forwards (RFC 3261 §16.3). Schemes are the upstream's business: the next hop
    /// does not depend on them. Neither does Require, which is the endpoint's.
    fn validate(&self, side: Side, request: &Message) -> Result<(), Refusal> {
        let buf = request.bytes();
        let hash = self.key.loop_hash(side, request.request_uri().of(buf));
        let looped = request.vias().flatten().filter_map(|via| via.branch).any(|branch| {
            let branch = branch.of(buf);
            // Upstream may send a call back to us for another handset (a spiral): only the same Request-URI in the
            // same direction is a loop. A handset that sends us what we sent is one in any case.
            self.key.is_our_branch(branch) && (side == Side::Phone || self.key.loop_hash_of(branch) == Some(hash))
        });
        if looped {
            return Err(Refusal::new(482, "Loop Detected"));
        }
        let unknown: Vec<String> = request
            .list(Name::ProxyRequire)
            .map(|element| String::from_utf8_lossy(element.span.of(buf)).into_owned())
            .filter(|tag| !tag.is_empty())
            .collect();
        if !unknown.is_empty() {
            return Err(Refusal {
                header: Some(("Unsupported", unknown.join(", "))),
                ..Refusal::new(420, "Bad Extension")
            });
        }
        Ok(())
    }

    /// Opens the context of a REGISTER and launches its first try.
    fn register_request(&mut self, server: ServerId, request: Message, arrival: Arrival, aor: &str, now: Instant) {
        let aor: Arc<str> = Arc::from(aor);
        let handset = self.handset_hash(&aor, arrival.source.ip());
        let call = self.key.hash(&[request.call_id(), aor.as_bytes()]);
        let cseq = request.cseq().map_or(0, |cseq| cseq.number);
        let reach = reach::of_register(&request, arrival.flow);
        let id = self.contexts.begin(server);
        let superseded = self.supersede(call, cseq, id, now);
        let mut context = Box::new(Context {
            server,
            request: Box::new(request),
            method: Method::Register,
            arrival,
            received_at: now,
            trying_sent: false,
            finished: false,
            cancelled: false,
            tries: SmallVec::new(),
            kind: Kind::Register(Box::new(Registering {
                handset,
                call,
                cseq,
                aor,
                reach,
                deadline: now + self.settings.retry_deadline,
                next_try: None,
                held: false,
                superseded,
                spent: false,
                instant_failures: 0,
                last_failure: None,
                visited: SmallVec::new(),
                answered_by: None,
                answered_over: 0,
                upward: None,
            })),
            scheduled: None,
        });
        self.launch_register(id, &mut context, now);
        self.settle(id, context, now);
    }

    /// ACK of a 2xx, or of nothing we know: end to end, without state (RFC 3261 §16.11).
    pub(super) fn forward_ack(&mut self, side: Side, request: &Message, arrival: &Arrival, now: Instant) {
        let routed = match side {
            Side::Phone => self.route_up(request, arrival, now),
            Side::Upstream => self.route_down(request, arrival),
        };
        match routed {
            Ok(Some(destination)) => self.forward_stateless(request, arrival, destination, now),
            Err(Refusal { status: 403, .. }) => self.metrics.dropped(side, "forged_mark").inc(),
            Ok(None) | Err(_) => self.metrics.dropped(side, "ack_unmatched").inc(),
        }
    }

    /// Where responses to a request go (RFC 3261 §18.2.2, RFC 3581 §4).
    pub(super) fn reply_to(&self, request: &Message, flow: Flow) -> Flow {
        match flow {
            Flow::Udp { socket, local, remote } => {
                Flow::Udp { socket, local, remote: reach::reply_address(request, remote) }
            }
            Flow::Conn(id) => {
                let Some(conn) = self.conns.get(id) else { return flow };
                if conn.transport.is_reliable() {
                    return flow;
                }
                // A connected upstream UDP socket reaches one port only.
                let to = reach::reply_address(request, conn.remote);
                match (self.unconnected_upstream(), conn.local) {
                    (Some(socket), Some(local)) if to != conn.remote => Flow::Udp { socket, local, remote: to },
                    _ => flow,
                }
            }
        }
    }
}

/// What a draining Holdline refuses: a message light (NOTIFY outside a dialog) is no new work.
fn is_new_work(request: &Message) -> bool {
    request.method() != Method::Notify && super::dialog::begins_dialog(request)
}

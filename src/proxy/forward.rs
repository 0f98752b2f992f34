//! Making the bytes that go on: the received message with a few splices, and nothing printed anew (RFC 3261 §16.6).

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use super::bindings::{self, Binding, Full};
use super::branch::Branch;
use super::contact::{self, Upward};
use super::context::{Arrival, Context, ContextId, Kind, TryState};
use super::core::Core;
use super::dialog::begins_dialog;
use super::identity::BindingId;
use super::relay::reach_flow;
use super::request::Destination;
use crate::flow::{ConnId, Flow, Side, SocketId, Transport};
use crate::message::{Edit, Message, Shown};
use crate::upstream::Target;

/// Max-Forwards of a request that came without (RFC 3261 §16.6 item 3).
const MAX_FORWARDS: u32 = 70;

impl Core {
    /// The connection of an upward try is there: renders and sends.
    pub(super) fn send_try(&mut self, id: ContextId, context: &mut Context, index: usize, conn: ConnId, now: Instant) {
        self.send_on(id, context, index, Flow::Conn(conn), now);
    }

    /// Renders a try for a flow and starts its client transaction.
    pub(super) fn send_on(&mut self, id: ContextId, context: &mut Context, index: usize, flow: Flow, now: Instant) {
        let rendered = match &context.kind {
            Kind::Register(_) => self.render_register(context, index, flow, now),
            Kind::Up { .. } => {
                let label = context.tries[index].target.clone();
                Ok(self.render_up(&context.request, &context.arrival, flow, &label, now))
            }
            Kind::Down { id, contact } => {
                Ok(self.render_down(&context.request, &context.arrival, flow, id, contact.as_deref()))
            }
        };
        let (bytes, branch) = match rendered {
            Ok(rendered) => rendered,
            Err((status, phrase)) => {
                context.tries[index].state = TryState::Closed;
                self.note_refusal(context, Some((status, phrase)), now);
                self.answer(context, status, phrase, &[], now);
                return;
            }
        };
        let reliable = self.flow_transport(flow).is_reliable();
        let (method, name) = (context.method, context.request.method_name());
        let this = &mut context.tries[index];
        this.flow = Some(flow);
        this.state = TryState::Sent;
        match self.transactions.send_request(method, name, branch.as_bytes(), flow, bytes, reliable, now) {
            Ok(client) => {
                tracing::debug!(
                    call_id = %context.request.call_id_shown(),
                    method = %Shown(name),
                    target = &*this.target,
                    ?flow,
                    attempt = index + 1,
                    "forwarded"
                );
                this.client = Some(client);
                self.contexts.bind(client, id, index);
            }
            Err(_) => {
                this.state = TryState::Closed;
                self.note_refusal(context, Some((503, "Transaction table full")), now);
                self.answer(context, 503, "Transaction table full", &[("Retry-After", "10")], now);
            }
        }
    }

    /// Sends an ACK on, which has no transaction.
    pub(super) fn forward_stateless(&mut self, request: &Message, arrival: &Arrival, to: Destination, now: Instant) {
        match to {
            Destination::Handset { id, reach, contact } => {
                let Some(flow) = reach_flow(&reach) else { return };
                let (bytes, _) = self.render_down(request, arrival, flow, &id, contact.as_deref());
                self.act(crate::flow::NetCommand::Send { flow, bytes });
            }
            Destination::Active | Destination::Target(_) => {
                let target = match &to {
                    Destination::Target(label) => self.upstream.target(label),
                    _ => self.upstream.active().map(|(target, _)| target),
                };
                let Some(target) = target else { return };
                let label = target.label.clone();
                let Some(hop) = self.hop_to(target) else { return };
                if let super::conns::Lease::Open(conn) = self.lease(&hop, now) {
                    let (bytes, _) = self.render_up(request, arrival, Flow::Conn(conn), &label, now);
                    self.act(crate::flow::NetCommand::Send { flow: Flow::Conn(conn), bytes });
                } else {
                    self.metrics.dropped(Side::Phone, "no_flow").inc();
                }
            }
        }
    }

    fn render_register(
        &mut self,
        context: &mut Context,
        index: usize,
        flow: Flow,
        now: Instant,
    ) -> Result<(Bytes, Branch), (u16, &'static str)> {
        let Kind::Register(state) = &mut context.kind else { return Err((500, "Server Internal Error")) };
        let advertised = contact::Advertised { sent_by: &self.sent_by(flow), transport: self.flow_transport(flow) };
        let from = contact::Arrival { source: context.arrival.source, transport: context.arrival.transport };
        let mut edit = Edit::new(&context.request);
        let upward = contact::rewrite_register(
            &context.request,
            &mut edit,
            &self.key,
            self.settings.contact,
            &from,
            &advertised,
        )
        .map_err(|refusal| (refusal.status(), refusal.phrase()))?;
        self.hop_up(&context.request, &context.arrival, &mut edit);
        let branch = self.push_via(&context.request, Side::Phone, &mut edit, flow);
        let (aor, reach, target) = (state.aor.clone(), state.reach, context.tries[index].target.clone());
        let arrived = &context.arrival;
        if let Err(Full) =
            note_bindings(&mut self.bindings, &context.request, &upward, &aor, reach, &target, arrived, now)
        {
            return Err((503, "Binding table full"));
        }
        state.upward = Some(upward);
        Ok((edit.finish(), branch))
    }

    fn render_up(
        &mut self,
        request: &Message,
        arrival: &Arrival,
        flow: Flow,
        label: &Arc<str>,
        now: Instant,
    ) -> (Bytes, Branch) {
        let mark = if begins_dialog(request) {
            let number = self.upstream.target(label).map(Target::number);
            number.and_then(|number| self.mark_up(request, arrival, number, label, now))
        } else {
            None
        };
        let mut edit = Edit::new(request);
        self.hop_up(request, arrival, &mut edit);
        if let Some(mark) = mark {
            self.record_route(&mut edit, &mark, Side::Phone, arrival, flow);
        }
        let branch = self.push_via(request, Side::Phone, &mut edit, flow);
        (edit.finish(), branch)
    }

    /// What every upward request gets: `received` and `rport`, Max-Forwards, our own Routes off, our own name replaced.
    fn hop_up(&self, request: &Message, arrival: &Arrival, edit: &mut Edit<'_>) {
        edit.stamp_via(arrival.source, true);
        edit.set_max_forwards(request.max_forwards().map_or(MAX_FORWARDS, |n| n.saturating_sub(1)));
        let local = self.ends(arrival.flow).map(|(local, _)| local);
        let popped = self.names.pop_routes(request, edit, &self.key, local);
        if !self.undo_strict_route(Side::Phone, request, edit, arrival)
            && !self.names.map_request_uri(request, edit, local)
        {
            Self::lead_strict_router(request, popped.ours, edit);
        }
        self.names.map_aor(request, edit, local);
    }

    fn render_down(
        &mut self,
        request: &Message,
        arrival: &Arrival,
        flow: Flow,
        id: &BindingId,
        contact: Option<&[u8]>,
    ) -> (Bytes, Branch) {
        let mark = if begins_dialog(request) { self.mark_down(id, arrival) } else { None };
        let mut edit = Edit::new(request);
        edit.stamp_via(arrival.source, true);
        edit.set_max_forwards(request.max_forwards().map_or(MAX_FORWARDS, |n| n.saturating_sub(1)));
        let popped = self.pop_marked_routes(request, &mut edit, arrival);
        if !self.undo_strict_route(Side::Upstream, request, &mut edit, arrival) {
            match contact {
                Some(contact) => edit.set_request_uri(contact::without_headers(contact)),
                None => Self::lead_strict_router(request, popped, &mut edit),
            }
        }
        if let Some(mark) = mark {
            self.record_route(&mut edit, &mark, Side::Upstream, arrival, flow);
        }
        let branch = self.push_via(request, Side::Upstream, &mut edit, flow);
        (edit.finish(), branch)
    }

    /// Our Via on top, with a branch nobody used before; and what the flow's transport wants.
    fn push_via(&mut self, request: &Message, from: Side, edit: &mut Edit<'_>, flow: Flow) -> Branch {
        self.branches += 1;
        let hash = self.key.loop_hash(from, request.request_uri().of(request.bytes()));
        let branch = self.key.branch(self.branches, hash);
        let transport = self.flow_transport(flow);
        let rport = if transport == Transport::Udp { ";rport" } else { "" };
        let mut via: SmallVec<[u8; 128]> = SmallVec::new();
        // Writing to memory cannot fail.
        let _ = write!(via, "SIP/2.0/{} {};branch={branch}{rport}", transport.via_token(), self.sent_by(flow));
        edit.push_via(&via);
        if transport.is_reliable() {
            edit.say_length();
        }
        branch
    }

    /// The unconnected upstream UDP socket.
    pub(super) fn unconnected_upstream(&self) -> Option<SocketId> {
        self.sockets.iter().find(|s| s.side == Side::Upstream && s.transport == Transport::Udp).map(|s| s.id)
    }
}

/// Notes where the handset is reached, so that upstream may call it before its 2xx has come back.
#[allow(clippy::too_many_arguments)]
fn note_bindings(
    table: &mut bindings::Bindings,
    request: &Message,
    upward: &Upward,
    aor: &std::sync::Arc<str>,
    reach: bindings::Reach,
    target: &std::sync::Arc<str>,
    arrival: &Arrival,
    now: Instant,
) -> Result<(), Full> {
    for bound in upward.bound.iter().filter(|bound| bound.expires != Some(0)) {
        table.upsert(
            Binding {
                id: bound.id,
                aor: aor.clone(),
                contact: bound.contact.clone(),
                reach,
                source: arrival.source,
                transport: arrival.transport,
                target: target.clone(),
                expires: now + UNCONFIRMED,
                confirmed: false,
                user_agent: bindings::user_agent(request),
                last_status: None,
            },
            now,
        )?;
    }
    Ok(())
}

/// How long a binding lives for which no 2xx has come yet: a REGISTER's longest life.
const UNCONFIRMED: std::time::Duration = std::time::Duration::from_secs(64);

//! Two elements, a client table and a server table, over a network that loses, doubles and reorders.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use proptest::prelude::*;

use super::clock::ms;
use super::*;

/// What one transaction is to do.
#[derive(Debug, Clone)]
struct Plan {
    invite: bool,
    starts: u64,
    /// The server's caller answers so much later …
    thinks: u64,
    /// … with this.
    status: u16,
}

/// A datagram's fate, drawn in the order in which datagrams are sent.
#[derive(Debug, Clone)]
enum Fate {
    Lost,
    Arrives(u64),
    Twice(u64, u64),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Start(usize),
    ToServer(Bytes),
    ToClient(Bytes),
    Respond(usize, ServerId),
}

#[derive(Default, Debug)]
struct Record {
    new_at_server: usize,
    responded: bool,
    finals: Vec<u16>,
    timeouts: usize,
    ended: usize,
}

fn plan() -> impl Strategy<Value = Plan> {
    let status = prop::sample::select(vec![200_u16, 302, 401, 404, 486, 503, 603]);
    (any::<bool>(), 0..2000_u64, 0..40_000_u64, status).prop_map(|(invite, starts, thinks, status)| Plan {
        invite,
        starts,
        thinks,
        status,
    })
}

/// No datagram is later than T1: the RFC's margin between a client's last retransmission and its server's forgetting.
fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Lost),
        5 => (0..500_u64).prop_map(Fate::Arrives),
        2 => (0..500_u64, 0..500_u64).prop_map(|(one, two)| Fate::Twice(one, two)),
    ]
}

struct Network {
    fates: std::iter::Cycle<std::vec::IntoIter<Fate>>,
    queue: BinaryHeap<Reverse<(Instant, usize, Happens)>>,
    posted: usize,
}

impl Network {
    fn post(&mut self, at: Instant, what: Happens) {
        self.posted += 1;
        self.queue.push(Reverse((at, self.posted, what)));
    }

    fn carry(&mut self, now: Instant, bytes: &Bytes, wrap: fn(Bytes) -> Happens) {
        let later = |delay| now + std::time::Duration::from_millis(delay);
        match self.fates.next().unwrap_or(Fate::Lost) {
            Fate::Lost => {}
            Fate::Arrives(delay) => self.post(later(delay), wrap(bytes.clone())),
            Fate::Twice(one, two) => {
                self.post(later(one), wrap(bytes.clone()));
                self.post(later(two), wrap(bytes.clone()));
            }
        }
    }
}

fn original(n: usize, plan: &Plan) -> Message {
    request(if plan.invite { "INVITE" } else { "REGISTER" }, &format!("z9hG4bK-{n}"), n as u32)
}

/// Plays everything until nothing more happens; all invariants are checked on the way and at the end. Returns how many
/// clients got their final answer.
fn play(plans: &[Plan], fates: Vec<Fate>) -> Result<usize, TestCaseError> {
    let mut net = Network { fates: fates.into_iter().cycle(), queue: BinaryHeap::new(), posted: 0 };
    for (n, plan) in plans.iter().enumerate() {
        net.post(ms(plan.starts), Happens::Start(n));
    }
    let records = plans.iter().map(|_| Record::default()).collect();
    let mut ends = Ends { plans, client: tables(), server: tables(), records, ids: BTreeMap::new() };
    loop {
        let next = net.queue.peek().map(|entry| entry.0.0);
        let deadlines = [next, ends.client.poll_timeout(), ends.server.poll_timeout()];
        let Some(now) = deadlines.into_iter().flatten().min() else { break };
        if next == Some(now) {
            let Some(Reverse((_, _, what))) = net.queue.pop() else { break };
            happen(what, &mut ends, &mut net, now)?;
        }
        let Ends { client, server, records, ids, .. } = &mut ends;
        client.handle_timeout(now);
        server.handle_timeout(now);
        while let Some(action) = client.poll_action() {
            match action {
                TxAction::Send { bytes, .. } => net.carry(now, &bytes, Happens::ToServer),
                TxAction::ClientTimeout(id) => records[ids[&id]].timeouts += 1,
                TxAction::ClientEnded(id) => records[ids[&id]].ended += 1,
                TxAction::ClientTimerC(_) | TxAction::ClientTransportError(..) | TxAction::ServerEnded(_) => {
                    prop_assert!(false, "unexpected {action:?}");
                }
            }
        }
        while let Some(action) = server.poll_action() {
            if let TxAction::Send { bytes, .. } = action {
                net.carry(now, &bytes, Happens::ToClient);
            }
        }
    }
    let Ends { client, server, records, .. } = ends;
    prop_assert_eq!((client.len(), server.len()), (0, 0), "after quiet every table is empty");
    prop_assert_eq!([client.open(), client.held(), server.open(), server.held()], [0; 4]);
    for (n, record) in records.iter().enumerate() {
        prop_assert!(record.new_at_server <= 1, "{n}: seen as new {} times", record.new_at_server);
        prop_assert_eq!(record.finals.len() + record.timeouts, 1, "{}: one end for the client: {:?}", n, record);
        prop_assert_eq!(record.ended, 1, "{}: the last word comes once", n);
        for status in &record.finals {
            prop_assert!(record.responded && *status == plans[n].status, "{n}: {record:?}");
        }
    }
    Ok(records.iter().filter(|record| record.timeouts == 0).count())
}

/// Both ends, and what was seen of each exchange.
struct Ends<'p> {
    plans: &'p [Plan],
    client: Transactions,
    server: Transactions,
    records: Vec<Record>,
    ids: BTreeMap<ClientId, usize>,
}

fn happen(what: Happens, ends: &mut Ends<'_>, net: &mut Network, now: Instant) -> Result<(), TestCaseError> {
    let Ends { plans, client, server, records, ids } = ends;
    match what {
        Happens::Start(n) => {
            let msg = original(n, &plans[n]);
            let at = now.duration_since(clock::start()).as_millis() as u64;
            ids.insert(send(client, &msg, at), n);
        }
        Happens::ToServer(bytes) => {
            let msg = Message::scan(bytes).expect("a message");
            let inbound = server.receive_request(&msg, phone(), phone(), false, now);
            if let Inbound::New(id) = inbound {
                let n = msg.cseq().expect("a CSeq").number as usize;
                records[n].new_at_server += 1;
                net.post(now + std::time::Duration::from_millis(plans[n].thinks), Happens::Respond(n, id));
            }
        }
        Happens::Respond(n, id) => {
            let msg = response(&original(n, &plans[n]), plans[n].status, "b1");
            records[n].responded |= server.respond(id, plans[n].status, msg.bytes().clone(), now);
            // A second answer is never sent, but for a 2xx to INVITE.
            if !(plans[n].invite && plans[n].status < 300) {
                prop_assert!(!server.respond(id, 500, msg.bytes().clone(), now));
            }
        }
        Happens::ToClient(bytes) => {
            let msg = Message::scan(bytes).expect("a message");
            if let Some(answer) = take_response(client, &msg, target(), now) {
                let record = &mut records[ids[&answer.client]];
                // A 2xx to INVITE comes as often as it is doubled.
                if !(record.finals == [answer.status] && answer.status < 300 && msg.method() == Method::Invite) {
                    record.finals.push(answer.status);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_transaction_ends_exactly_once_whatever_the_network_does(
        plans in prop::collection::vec(plan(), 1..12),
        fates in prop::collection::vec(fate(), 1..60),
    ) {
        play(&plans, fates)?;
    }

    /// Without loss every client gets the one final answer that the server gave in time.
    #[test]
    fn a_perfect_network_answers_all(plans in prop::collection::vec(plan(), 1..12)) {
        let in_time: Vec<_> = plans.into_iter().map(|plan| Plan { thinks: plan.thinks % 31_000, ..plan }).collect();
        prop_assert_eq!(play(&in_time, vec![Fate::Arrives(20)])?, in_time.len());
    }
}

/// Loss so heavy that most transactions time out, and none: the generator reaches both.
#[test]
fn the_extremes() {
    let plans: Vec<_> = (0..10)
        .map(|n| Plan {
            invite: n % 2 == 0,
            starts: n * 10,
            thinks: n * 3500,
            status: if n % 3 == 0 { 200 } else { 486 },
        })
        .collect();
    let all_end = |fates| play(&plans, fates).expect("every invariant holds");
    assert_eq!(all_end(vec![Fate::Lost]), 0);
    assert_eq!(all_end(vec![Fate::Twice(1, 499)]), 10);
    assert!((1..10).contains(&all_end(vec![Fate::Lost, Fate::Lost, Fate::Lost, Fate::Arrives(399)])));
}

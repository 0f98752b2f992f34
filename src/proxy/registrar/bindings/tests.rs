//! The binding table, story by story, then against a naive model.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Binding, Bindings, BindingsFull, Change, MAX_PER_AOR, Reach, user_agent};
use crate::flow::{ConnId, SocketId, Transport};
use crate::message::Message;
use crate::proxy::StoredBinding;
use crate::proxy::marks::{BindingId, IdParts, Key};
use crate::proxy::registrar::contact::Terms;

#[allow(clippy::disallowed_methods, reason = "a test needs some instant to begin at")]
fn start() -> Instant {
    Instant::now()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn id(number: usize) -> BindingId {
    let contact = number.to_string();
    let parts = IdParts { aor: b"", contact: (contact.as_bytes(), b""), instance: None, source: [192, 0, 2, 1].into() };
    key().binding_id(&parts)
}

fn key() -> Key {
    Key::new([1; 32])
}

fn phone(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], port))
}

fn udp(port: u16, nat: bool) -> Reach {
    Reach::Udp { socket: SocketId(0), local: SocketAddr::from(([192, 0, 2, 1], 5060)), to: phone(port), nat }
}

fn binding(number: usize, aor: &str, reach: Reach, expires: Instant) -> Binding {
    Binding {
        id: id(number),
        aor: aor.into(),
        contact: format!("sip:{number}@198.51.100.7").into_bytes().into(),
        reach,
        source: phone(5060),
        transport: if matches!(reach, Reach::Udp { .. }) { Transport::Udp } else { Transport::Tcp },
        target: "a.example:5060".into(),
        expires,
        confirmed: false,
        user_agent: "".into(),
        last_status: None,
        terms: Terms::default(),
    }
}

fn changes(table: &mut Bindings) -> Vec<Change> {
    std::iter::from_fn(|| table.poll_change()).collect()
}

#[test]
fn a_binding_counts_from_its_2xx_on_and_goes_when_the_grant_ends() {
    let (mut table, now) = (Bindings::new(10), start());
    table.upsert(binding(1, "a@x", udp(1, false), now + seconds(32)), now).expect("room");
    assert!(!table.get(&id(1)).expect("there").confirmed);
    assert_eq!((table.len(), table.confirmed_len()), (1, 0));
    assert_eq!(changes(&mut table), []);

    assert!(table.confirm(&id(1), 3600, now + seconds(1)));
    assert_eq!(changes(&mut table), [Change::Put(id(1))]);
    assert_eq!(table.poll_timeout(), Some(now + seconds(3601)));

    table.handle_timeout(now + seconds(3600));
    assert_eq!(table.len(), 1);
    table.handle_timeout(now + seconds(3601));
    assert!(table.is_empty());
    assert_eq!(changes(&mut table), [Change::Remove(id(1))]);
    assert_eq!(table.poll_timeout(), None);
}

#[test]
fn a_register_without_2xx_leaves_nothing() {
    let (mut table, now) = (Bindings::new(10), start());
    table.upsert(binding(1, "a@x", udp(1, true), now + seconds(32)), now).expect("room");
    table.handle_timeout(now + seconds(32));
    assert!(table.is_empty());
    assert_eq!(table.kept_open(), 0);
    assert_eq!(changes(&mut table), []);
}

#[test]
fn asking_alone_does_not_move_a_confirmed_binding() {
    let (mut table, now) = (Bindings::new(10), start());
    table.upsert(binding(1, "a@x", udp(1, false), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 60, now);
    table.upsert(binding(1, "a@x", udp(2, false), now + seconds(32)), now).expect("room");
    assert_eq!(table.get(&id(1)).map(|b| b.reach), Some(udp(1, false)));
    table.confirm(&id(1), 60, now);
    assert_eq!(table.get(&id(1)).map(|b| b.reach), Some(udp(2, false)));
}

#[test]
fn a_refresh_is_stored_once() {
    let (mut table, now) = (Bindings::new(10), start());
    table.upsert(binding(1, "a@x", udp(1, false), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 60, now);
    changes(&mut table);
    table.upsert(binding(1, "a@x", udp(1, false), now + seconds(32)), now).expect("room");
    table.upsert(binding(1, "a@x", udp(1, false), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 60, now + seconds(30));
    assert_eq!(changes(&mut table), [Change::Put(id(1))]);
    assert_eq!(table.get(&id(1)).map(|b| b.expires), Some(now + seconds(90)));
}

#[test]
fn a_phone_whose_connection_is_gone_is_lost_until_it_registers_again() {
    let (mut table, now) = (Bindings::new(10), start());
    table.upsert(binding(1, "a@x", Reach::Conn(ConnId::Accepted(1)), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 600, now);
    assert_eq!(table.on_connection(ConnId::Accepted(1)), 1);
    assert_eq!(table.connection_lost(ConnId::Accepted(1)), 1);
    assert!(table.get(&id(1)).expect("still known: 480, not 404").flow_lost());
    assert_eq!(table.on_connection(ConnId::Accepted(1)), 0);

    table.upsert(binding(1, "a@x", Reach::Conn(ConnId::Accepted(3)), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 600, now);
    assert_eq!(table.get(&id(1)).map(|b| b.reach), Some(Reach::Conn(ConnId::Accepted(3))));
    assert_eq!(table.len(), 1);
}

#[test]
fn the_newest_status_is_kept() {
    let (mut table, now) = (Bindings::new(10), start());
    let status = |table: &Bindings| table.get(&id(1)).and_then(|b| b.last_status);
    table.upsert(binding(1, "a@x", udp(1, false), now + seconds(32)), now).expect("room");
    table.note_answer(&id(1), 401, Terms::default(), None);
    table.confirm(&id(1), 600, now);
    assert_eq!(status(&table), Some(401));
    for reach in [udp(1, false), udp(2, false)] {
        let last_status = Some(200);
        table.note_answer(&id(1), 503, Terms::default(), None);
        table.upsert(Binding { last_status, ..binding(1, "a@x", reach, now + seconds(32)) }, now).expect("known");
        assert_eq!(status(&table), Some(503));
        table.confirm(&id(1), 600, now);
        assert_eq!(status(&table), Some(200));
    }
}

#[test]
fn a_connection_lost_between_register_and_2xx_is_not_used() {
    let (mut table, now) = (Bindings::new(10), start());
    table.upsert(binding(1, "a@x", Reach::Conn(ConnId::Accepted(1)), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 600, now);
    table.upsert(binding(1, "a@x", Reach::Conn(ConnId::Accepted(3)), now + seconds(32)), now).expect("room");
    assert_eq!(table.on_connection(ConnId::Accepted(3)), 1);
    assert_eq!(table.connection_lost(ConnId::Accepted(3)), 1);
    assert_eq!(table.get(&id(1)).map(|b| b.reach), Some(Reach::Conn(ConnId::Accepted(1))));
    table.confirm(&id(1), 600, now);
    assert_eq!(table.get(&id(1)).map(|b| b.reach), Some(Reach::Lost));
    assert_eq!(table.connection_lost(ConnId::Accepted(1)), 0);
}

#[test]
fn a_grant_of_zero_and_a_star_take_bindings_out() {
    let (mut table, now) = (Bindings::new(10), start());
    for number in 1..=3 {
        table.upsert(binding(number, "a@x", udp(1, true), now + seconds(32)), now).expect("room");
        table.confirm(&id(number), 60, now);
    }
    table.upsert(binding(4, "b@x", udp(1, true), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 0, now);
    assert_eq!(table.of_aor("a@x").count(), 2);
    assert_eq!(table.remove_aor("a@x"), 2);
    assert_eq!(table.remove_aor("a@x"), 0);
    assert_eq!((table.len(), table.kept_open()), (1, 1));
    assert!(!table.confirm(&id(1), 60, now), "it is not there any more");
}

#[test]
fn a_full_table_keeps_what_is_confirmed() {
    let (mut table, now) = (Bindings::new(2), start());
    table.upsert(binding(1, "a@x", udp(1, false), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 60, now);
    table.upsert(binding(2, "b@x", udp(1, false), now + seconds(32)), now).expect("room");
    table.upsert(binding(3, "c@x", udp(1, false), now + seconds(32)), now).expect("in place of the unconfirmed one");
    assert!(table.get(&id(2)).is_none());
    table.confirm(&id(3), 600, now);
    assert_eq!(table.upsert(binding(2, "b@x", udp(1, false), now + seconds(32)), now), Err(BindingsFull));
    // A refresh needs no room.
    table.upsert(binding(1, "a@x", udp(1, false), now + seconds(32)), now).expect("known");
    // What expired is not in the way, swept or not.
    table.upsert(binding(2, "b@x", udp(1, false), now + seconds(99)), now + seconds(61)).expect("in place of 1");
    assert!(table.get(&id(1)).is_none());
}

#[test]
fn one_address_of_record_does_not_fill_the_table() {
    let (mut table, now) = (Bindings::new(1000), start());
    for number in 0..MAX_PER_AOR {
        table.upsert(binding(number, "a@x", Reach::Conn(ConnId::Accepted(1)), now + seconds(32)), now).expect("room");
        table.confirm(&id(number), 60, now);
    }
    assert_eq!(table.upsert(binding(99, "a@x", udp(1, false), now + seconds(32)), now), Err(BindingsFull));
    table.connection_lost(ConnId::Accepted(1));
    table.upsert(binding(99, "a@x", udp(1, false), now + seconds(32)), now).expect("in place of a lost one");
    table.upsert(binding(98, "a@x", udp(1, false), now + seconds(32)), now).expect("in place of the unconfirmed one");
    assert!(table.get(&id(99)).is_none());
    assert_eq!(table.of_aor("a@x").count(), MAX_PER_AOR);
}

#[test]
fn bindings_left_at_the_old_target_are_counted() {
    let (mut table, now) = (Bindings::new(10), start());
    for number in 1..=2 {
        table.upsert(binding(number, "a@x", udp(1, false), now + seconds(32)), now).expect("room");
        table.confirm(&id(number), 60, now);
    }
    assert_eq!(table.orphaned("b.example:5060"), 2);
    let moved = Binding { target: "b.example:5060".into(), ..binding(1, "a@x", udp(1, false), now + seconds(32)) };
    table.upsert(moved, now).expect("known");
    table.confirm(&id(1), 60, now);
    assert_eq!(table.orphaned("b.example:5060"), 1);
    assert_eq!((table.at_target("a.example:5060"), table.at_target("b.example:5060")), (1, 1));
}

#[test]
fn a_udp_phone_is_reached_after_a_restart_and_a_tcp_phone_is_lost() {
    let (mut table, now) = (Bindings::new(10), start());
    table.upsert(binding(1, "a@x", udp(1, true), now + seconds(32)), now).expect("room");
    table.upsert(binding(2, "a@x", Reach::Conn(ConnId::Accepted(1)), now + seconds(32)), now).expect("room");
    table.upsert(binding(3, "a@x", udp(1, true), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 600, now);
    table.confirm(&id(2), 600, now);
    assert_eq!(table.export(&id(3), now, 1_000_000), None, "unconfirmed");
    let stored: Vec<_> = [1, 2].iter().filter_map(|n| table.export(&id(*n), now + seconds(100), 1_000_100)).collect();
    assert_eq!(stored.iter().map(|s| s.expires_at).collect::<Vec<_>>(), [1_000_600, 1_000_600]);

    // Another process, another clock.
    let (mut next, then) = (Bindings::new(10), now + seconds(12_345));
    for stored in &stored {
        assert!(next.import(stored, &key(), Some(SocketId(4)), then, 1_000_200));
        assert!(!next.import(stored, &key(), None, then, 1_000_200), "known already");
    }
    let one = next.get(&id(1)).expect("taken over");
    let Reach::Udp { socket, to, .. } = one.reach else { panic!("{:?}", one.reach) };
    assert_eq!((socket, to), (SocketId(4), phone(1)));
    assert_eq!((one.expires, one.confirmed), (then + seconds(400), true));
    assert_eq!(one.contact, table.get(&id(1)).expect("there").contact);
    assert!(next.get(&id(2)).expect("taken over").flow_lost());
    assert_eq!(next.kept_open(), 1);
    assert_eq!(changes(&mut next), [], "what was read need not be written");
}

#[test]
fn foreign_damaged_and_expired_records_are_left_out() {
    let (mut table, now) = (Bindings::new(1), start());
    table.upsert(binding(1, "a@x", udp(1, true), now + seconds(32)), now).expect("room");
    table.confirm(&id(1), 600, now);
    let good = table.export(&id(1), now, 1000).expect("confirmed");
    let mut next = Bindings::new(1);
    assert!(!next.import(&good, &Key::new([2; 32]), None, now, 1000), "of another key");
    assert!(!next.import(&good, &key(), None, now, 1600), "expired");
    let damaged = [
        StoredBinding { id: "1001".into(), ..good.clone() },
        StoredBinding { transport: "sctp".into(), ..good.clone() },
        StoredBinding { contact: "sip:1\r\n@x".into(), ..good.clone() },
        StoredBinding { contact: String::new(), ..good.clone() },
    ];
    for damaged in &damaged {
        assert!(!next.import(damaged, &key(), None, now, 1000), "{damaged:?}");
    }
    let forever = StoredBinding { expires_at: u64::MAX, ..good.clone() };
    assert!(next.import(&forever, &key(), None, now, 1000));
    assert!(next.get(&id(1)).is_some_and(|b| b.flow_lost() && b.expires <= now + seconds(31 * 24 * 3600)));
    assert!(!next.import(&StoredBinding { id: id(2).to_string(), ..good }, &key(), None, now, 1000), "full");
}

#[test]
fn a_user_agent_is_cut_and_printable() {
    let of = |value: &[u8]| {
        let bytes = [b"OPTIONS sip:h SIP/2.0\r\nUser-Agent: ", value, b"\r\n\r\n"].concat();
        user_agent(&Message::scan(bytes.into()).expect("a message"))
    };
    assert_eq!(&*of(b"Yealink SIP-T46S 66.86.0.15"), "Yealink SIP-T46S 66.86.0.15");
    assert_eq!(&*of(b"x\x1b[31m\xff"), "x?[31m?");
    assert_eq!(of(&[b'y'; 1000]).len(), 64);
    assert_eq!(&*of(b""), "");
}

#[derive(Debug, Clone)]
enum Step {
    Upsert { id: usize, aor: usize, reach: Reach },
    Confirm { id: usize, granted: u32 },
    Remove { id: usize },
    RemoveAor { aor: usize },
    Lose { conn: u64 },
    Wait { seconds: u64 },
}

fn reach() -> impl Strategy<Value = Reach> {
    prop_oneof![
        (0..3u16, any::<bool>()).prop_map(|(port, nat)| udp(port, nat)),
        (0..3u64).prop_map(|conn| Reach::Conn(ConnId::Accepted(conn))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8usize, reach()).prop_map(|(id, reach)| Step::Upsert { id, aor: id % 3, reach }),
        4 => (0..8usize, 0..4u32).prop_map(|(id, n)| Step::Confirm { id, granted: n * 20 }),
        1 => (0..8usize).prop_map(|id| Step::Remove { id }),
        1 => (0..3usize).prop_map(|aor| Step::RemoveAor { aor }),
        1 => (0..3u64).prop_map(|conn| Step::Lose { conn }),
        2 => (1..30u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// The table as one would write it without care for speed.
#[derive(Default)]
struct Model {
    bindings: BTreeMap<BindingId, (Binding, Option<Binding>)>,
}

impl Model {
    fn upsert(&mut self, new: Binding, limit: usize, now: Instant) -> Result<(), BindingsFull> {
        if let Some((old, pending)) = self.bindings.get_mut(&new.id) {
            if old.confirmed {
                *pending = Some(new);
            } else {
                *old = new;
            }
            return Ok(());
        }
        if self.bindings.len() >= limit {
            self.bindings.retain(|_, (b, _)| b.expires > now);
        }
        if self.bindings.len() >= limit {
            let unconfirmed = self.bindings.values().filter(|(b, _)| !b.confirmed);
            let first = unconfirmed.map(|(b, _)| (b.expires, b.id)).min().ok_or(BindingsFull)?;
            self.bindings.remove(&first.1);
        }
        self.bindings.insert(new.id, (new, None));
        Ok(())
    }

    fn confirm(&mut self, id: &BindingId, granted: u32, now: Instant) {
        if let Some((old, pending)) = self.bindings.remove(id)
            && granted > 0
        {
            let expires = now + seconds(granted.into());
            let new = Binding { confirmed: true, expires, ..pending.unwrap_or(old) };
            self.bindings.insert(*id, (new, None));
        }
    }

    fn lose(&mut self, conn: ConnId) {
        for (binding, pending) in self.bindings.values_mut() {
            for b in std::iter::once(binding).chain(pending) {
                if b.reach == Reach::Conn(conn) {
                    b.reach = Reach::Lost;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_table_does_what_a_naive_one_does(steps in proptest::collection::vec(step(), 1..80)) {
        const LIMIT: usize = 5;
        let (mut table, mut model, mut now) = (Bindings::new(LIMIT), Model::default(), start());
        let mut stored = BTreeSet::new();
        for step in steps {
            match step {
                Step::Upsert { id, aor, reach } => {
                    let new = binding(id, &format!("{aor}@x"), reach, now + seconds(32));
                    prop_assert_eq!(table.upsert(new.clone(), now), model.upsert(new, LIMIT, now));
                }
                Step::Confirm { id: number, granted } => {
                    let known = model.bindings.contains_key(&id(number));
                    prop_assert_eq!(table.confirm(&id(number), granted, now), known);
                    model.confirm(&id(number), granted, now);
                }
                Step::Remove { id: number } => {
                    let removed = model.bindings.remove(&id(number)).map(|(b, _)| b);
                    prop_assert_eq!(table.remove(&id(number)), removed);
                }
                Step::RemoveAor { aor } => {
                    let aor = format!("{aor}@x");
                    let before = model.bindings.len();
                    model.bindings.retain(|_, (b, _)| *b.aor != *aor);
                    prop_assert_eq!(table.remove_aor(&aor), before - model.bindings.len());
                }
                Step::Lose { conn } => {
                    table.connection_lost(ConnId::Accepted(conn));
                    model.lose(ConnId::Accepted(conn));
                }
                Step::Wait { seconds: n } => {
                    now += seconds(n);
                    table.handle_timeout(now);
                    model.bindings.retain(|_, (b, _)| b.expires > now);
                }
            }
            let wanted: Vec<&Binding> = model.bindings.values().map(|(b, _)| b).collect();
            let mut found: Vec<&Binding> = table.iter().collect();
            found.sort_by_key(|b| b.id);
            prop_assert_eq!(&found, &wanted);
            prop_assert!(table.len() <= LIMIT);
            prop_assert_eq!(table.len(), wanted.len());
            prop_assert_eq!(table.confirmed_len(), wanted.iter().filter(|b| b.confirmed).count());
            prop_assert_eq!(table.orphaned("a.example:5060"), 0);
            for conn in 0..3 {
                let on = |b: &Binding| b.reach == Reach::Conn(ConnId::Accepted(conn));
                let count = model.bindings.values().filter(|(b, p)| on(b) || p.as_ref().is_some_and(on)).count();
                prop_assert_eq!(table.on_connection(ConnId::Accepted(conn)), count);
            }
            let flows: BTreeSet<u16> = wanted.iter().filter_map(|b| match b.reach {
                Reach::Udp { to, nat: true, .. } => Some(to.port()),
                _ => None,
            }).collect();
            prop_assert_eq!(table.kept_open(), flows.len());
            let first = wanted.iter().map(|b| b.expires).min();
            prop_assert!(first.is_none_or(|at| table.poll_timeout().is_some_and(|wake| wake <= at.max(now + seconds(1)))));
            let confirmed: BTreeSet<BindingId> = wanted.iter().filter(|b| b.confirmed).map(|b| b.id).collect();
            while let Some(change) = table.poll_change() {
                match change {
                    Change::Put(id) => stored.insert(id),
                    Change::Remove(id) => stored.remove(&id),
                };
            }
            prop_assert_eq!(&stored, &confirmed);
        }
    }
}

//! RFC 3261 figure 7 as changed by RFC 6026 figure 1, row by row.

use super::super::tests::clock::{ms, since};
use super::Event::{Abandon, Ack, Failure, Invite, Provisional, Success};
use super::*;

/// `(after so many ms, what)`; no event: the timer that is due then.
type Script<'s> = &'s [(u64, Option<Event>)];

fn play(reliable: bool, script: Script<'_>) -> (Vec<Action>, InviteServer) {
    let timers = Timers::default();
    let mut machine = InviteServer::new(reliable);
    let mut last = vec![];
    for &(at, event) in script {
        match event {
            Some(event) => machine.handle(event, &timers, ms(at)),
            None => machine.handle_timeout(&timers, ms(at)),
        }
        last = drain(&mut machine);
    }
    (last, machine)
}

fn drain(machine: &mut InviteServer) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll_action()).collect()
}

fn shape(state: State) -> String {
    match state {
        State::Proceeding => "Proceeding".to_string(),
        State::Accepted { l } => format!("Accepted l={}", since(l)),
        State::Completed { g, h } => {
            let g = g.map_or("off".to_string(), |g| since(g.at).to_string());
            format!("Completed g={g} h={}", since(h))
        }
        State::Confirmed { i } => format!("Confirmed i={}", since(i)),
        State::Abandoned { end } => format!("Abandoned end={}", since(end)),
        State::Terminated => "Terminated".to_string(),
    }
}

/// (name, script, actions of its last step and state after it, on datagrams and on a stream)
type Row = (&'static str, Script<'static>, &'static [Action], &'static str, &'static [Action], &'static str);

const ACCEPTED: &str = "Accepted l=32009";
const COMPLETED: &str = "Completed g=509 h=32009";
const COMPLETED_TCP: &str = "Completed g=off h=32009";
const ABANDONED: &str = "Abandoned end=32009";

#[test]
fn every_row() {
    use Action::{Answered, Completed, Ended, Pass, PassAck, Replay, Send};
    let rows: &[Row] = &[
        ("an INVITE", &[], &[], "Proceeding", &[], "Proceeding"),
        ("again in Proceeding", &[(9, Some(Invite))], &[Replay], "Proceeding", &[Replay], "Proceeding"),
        ("100–199", &[(9, Some(Provisional))], &[Send], "Proceeding", &[Send], "Proceeding"),
        ("2xx", &[(9, Some(Success))], &[Pass, Answered], ACCEPTED, &[Pass, Answered], ACCEPTED),
        ("300–699", &[(9, Some(Failure))], &[Send, Answered], COMPLETED, &[Send, Answered], COMPLETED_TCP),
        ("ACK of nothing", &[(9, Some(Ack))], &[], "Proceeding", &[], "Proceeding"),
        ("abandoned", &[(9, Some(Abandon))], &[Completed], ABANDONED, &[Completed], ABANDONED),
        ("again in Accepted: absorbed", &[(9, Some(Success)), (500, Some(Invite))], &[], ACCEPTED, &[], ACCEPTED),
        ("2xx in Accepted", &[(9, Some(Success)), (500, Some(Success))], &[Pass], ACCEPTED, &[Pass], ACCEPTED),
        ("ACK in Accepted", &[(9, Some(Success)), (500, Some(Ack))], &[PassAck], ACCEPTED, &[PassAck], ACCEPTED),
        ("1xx in Accepted", &[(9, Some(Success)), (500, Some(Provisional))], &[], ACCEPTED, &[], ACCEPTED),
        ("300–699 in Accepted", &[(9, Some(Success)), (500, Some(Failure))], &[], ACCEPTED, &[], ACCEPTED),
        ("abandoned in Accepted", &[(9, Some(Success)), (500, Some(Abandon))], &[], ACCEPTED, &[], ACCEPTED),
        ("L", &[(9, Some(Success)), (32_009, None)], &[Ended], "Terminated", &[Ended], "Terminated"),
        (
            "again in Completed",
            &[(9, Some(Failure)), (10, Some(Invite))],
            &[Replay],
            COMPLETED,
            &[Replay],
            COMPLETED_TCP,
        ),
        ("G", &[(9, Some(Failure)), (509, None)], &[Replay], "Completed g=1509 h=32009", &[], COMPLETED_TCP),
        ("H", &[(9, Some(Failure)), (32_009, None)], &[Ended], "Terminated", &[Ended], "Terminated"),
        ("ACK", &[(9, Some(Failure)), (10, Some(Ack))], &[Completed], "Confirmed i=5010", &[Ended], "Terminated"),
        ("1xx in Completed", &[(9, Some(Failure)), (10, Some(Provisional))], &[], COMPLETED, &[], COMPLETED_TCP),
        ("2xx in Completed", &[(9, Some(Failure)), (10, Some(Success))], &[], COMPLETED, &[], COMPLETED_TCP),
        ("300–699 in Completed", &[(9, Some(Failure)), (10, Some(Failure))], &[], COMPLETED, &[], COMPLETED_TCP),
        ("abandoned in Completed", &[(9, Some(Failure)), (10, Some(Abandon))], &[], COMPLETED, &[], COMPLETED_TCP),
        (
            "ACK again",
            &[(9, Some(Failure)), (10, Some(Ack)), (11, Some(Ack))],
            &[],
            "Confirmed i=5010",
            &[],
            "Terminated",
        ),
        (
            "the INVITE again in Confirmed",
            &[(9, Some(Failure)), (10, Some(Ack)), (11, Some(Invite))],
            &[],
            "Confirmed i=5010",
            &[],
            "Terminated",
        ),
        ("I", &[(9, Some(Failure)), (10, Some(Ack)), (5010, None)], &[Ended], "Terminated", &[], "Terminated"),
        ("silence stays silence", &[(9, Some(Abandon)), (500, Some(Invite))], &[], ABANDONED, &[], ABANDONED),
        ("no answer after all", &[(9, Some(Abandon)), (500, Some(Success))], &[], ABANDONED, &[], ABANDONED),
        ("abandoned, and over", &[(9, Some(Abandon)), (32_009, None)], &[Ended], "Terminated", &[Ended], "Terminated"),
    ];
    for (name, script, datagrams, datagram_state, stream, stream_state) in rows {
        let (actions, machine) = play(false, script);
        assert_eq!((actions.as_slice(), shape(machine.state).as_str()), (*datagrams, *datagram_state), "{name}, UDP");
        let (actions, machine) = play(true, script);
        assert_eq!((actions.as_slice(), shape(machine.state).as_str()), (*stream, *stream_state), "{name}, TCP");
    }
}

#[test]
fn an_unacknowledged_failure_is_sent_eleven_times_in_32_s() {
    let timers = Timers::default();
    let mut machine = InviteServer::new(false);
    machine.handle(Failure, &timers, ms(0));
    assert_eq!(drain(&mut machine), [Action::Send, Action::Answered]);
    let mut ladder = vec![];
    while let Some(at) = machine.poll_timeout() {
        machine.handle_timeout(&timers, at);
        ladder.extend(drain(&mut machine).into_iter().map(|action| (since(at), action)));
    }
    let sends = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = sends.map(|at| (at, Action::Replay)).to_vec();
    expected.push((32_000, Action::Ended));
    assert_eq!(ladder, expected);
}

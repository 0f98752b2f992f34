//! RFC 3261 figure 8 with RFC 4320, row by row.

use super::super::tests::clock::{ms, since};
use super::Event::{Abandon, Final, Hundred, Provisional, Request, Timeout};
use super::*;

/// `(after so many ms, what)`; no event: the timer that is due then.
type Script<'s> = &'s [(u64, Option<Event>)];

fn play(reliable: bool, script: Script<'_>) -> (Vec<Action>, NonInviteServer) {
    let timers = Timers::default();
    let mut machine = NonInviteServer::new(reliable, &timers, ms(0));
    let mut last = vec![];
    for &(at, event) in script {
        match event {
            Some(event) => machine.handle(event, &timers, ms(at)),
            None => machine.handle_timeout(&timers, ms(at)),
        }
        last = std::iter::from_fn(|| machine.poll_action()).collect();
    }
    (last, machine)
}

fn shape(state: State) -> String {
    match state {
        State::Trying { hundred, end } => format!("Trying hundred={} end={}", since(hundred), since(end)),
        State::Proceeding { end } => format!("Proceeding end={}", since(end)),
        State::Completed { j } => format!("Completed j={}", since(j)),
        State::Abandoned { end } => format!("Abandoned end={}", since(end)),
        State::Terminated => "Terminated".to_string(),
    }
}

/// (name, script, actions of its last step and state after it, on datagrams and on a stream)
type Row = (&'static str, Script<'static>, &'static [Action], &'static str, &'static [Action], &'static str);

const TRYING: &str = "Trying hundred=3500 end=32000";
const TRYING_TCP: &str = "Trying hundred=0 end=32000";
const PROCEEDING: &str = "Proceeding end=32000";
const ABANDONED: &str = "Abandoned end=37000";

#[test]
fn every_row() {
    use Action::{Completed, Ended, Replay, Send};
    let rows: &[Row] = &[
        ("a request", &[], &[], TRYING, &[], TRYING_TCP),
        ("again in Trying: absorbed", &[(500, Some(Request))], &[], TRYING, &[], TRYING_TCP),
        ("100 before 3.5 s", &[(3499, Some(Hundred))], &[], TRYING, &[Send], PROCEEDING),
        ("100 at 3.5 s", &[(3500, Some(Hundred))], &[Send], PROCEEDING, &[Send], PROCEEDING),
        ("101–199 in Trying", &[(4000, Some(Provisional))], &[], TRYING, &[], TRYING_TCP),
        (
            "200–699 in Trying",
            &[(9, Some(Final))],
            &[Send, Completed],
            "Completed j=32009",
            &[Send, Ended],
            "Terminated",
        ),
        ("408 in Trying", &[(9, Some(Timeout))], &[Completed], ABANDONED, &[Completed], ABANDONED),
        ("abandoned in Trying", &[(9, Some(Abandon))], &[Completed], ABANDONED, &[Completed], ABANDONED),
        ("the client gave up in Trying", &[(32_000, None)], &[Completed], ABANDONED, &[Completed], ABANDONED),
        (
            "again in Proceeding",
            &[(3500, Some(Hundred)), (4000, Some(Request))],
            &[Replay],
            PROCEEDING,
            &[Replay],
            PROCEEDING,
        ),
        (
            "100 in Proceeding",
            &[(3500, Some(Hundred)), (4000, Some(Hundred))],
            &[Send],
            PROCEEDING,
            &[Send],
            PROCEEDING,
        ),
        (
            "101–199 in Proceeding",
            &[(3500, Some(Hundred)), (4000, Some(Provisional))],
            &[],
            PROCEEDING,
            &[],
            PROCEEDING,
        ),
        (
            "200–699 in Proceeding",
            &[(3500, Some(Hundred)), (9000, Some(Final))],
            &[Send, Completed],
            "Completed j=41000",
            &[Send, Ended],
            "Terminated",
        ),
        (
            "408 in Proceeding",
            &[(3500, Some(Hundred)), (9000, Some(Timeout))],
            &[Completed],
            ABANDONED,
            &[Completed],
            ABANDONED,
        ),
        (
            "abandoned in Proceeding",
            &[(3500, Some(Hundred)), (9000, Some(Abandon))],
            &[Completed],
            ABANDONED,
            &[Completed],
            ABANDONED,
        ),
        (
            "the client gave up in Proceeding",
            &[(3500, Some(Hundred)), (32_000, None)],
            &[Completed],
            ABANDONED,
            &[Completed],
            ABANDONED,
        ),
        (
            "again in Completed",
            &[(9, Some(Final)), (500, Some(Request))],
            &[Replay],
            "Completed j=32009",
            &[],
            "Terminated",
        ),
        ("a second final", &[(9, Some(Final)), (10, Some(Final))], &[], "Completed j=32009", &[], "Terminated"),
        ("100 in Completed", &[(9, Some(Final)), (9000, Some(Hundred))], &[], "Completed j=32009", &[], "Terminated"),
        (
            "abandoned in Completed",
            &[(9, Some(Final)), (10, Some(Abandon))],
            &[],
            "Completed j=32009",
            &[],
            "Terminated",
        ),
        ("J", &[(9, Some(Final)), (32_009, None)], &[Ended], "Terminated", &[], "Terminated"),
        ("no answer when the client gave up", &[(32_000, None), (32_001, Some(Final))], &[], ABANDONED, &[], ABANDONED),
        ("a straggler", &[(32_000, None), (34_000, Some(Request))], &[], ABANDONED, &[], ABANDONED),
        ("silence stays silence", &[(9, Some(Abandon)), (500, Some(Request))], &[], ABANDONED, &[], ABANDONED),
        ("no answer after all", &[(9, Some(Abandon)), (500, Some(Final))], &[], ABANDONED, &[], ABANDONED),
        ("abandoned, and over", &[(9, Some(Abandon)), (37_000, None)], &[Ended], "Terminated", &[Ended], "Terminated"),
        (
            "nothing after the end",
            &[(32_000, None), (37_000, None), (37_001, Some(Final))],
            &[],
            "Terminated",
            &[],
            "Terminated",
        ),
    ];
    for (name, script, datagrams, datagram_state, stream, stream_state) in rows {
        let (actions, machine) = play(false, script);
        assert_eq!((actions.as_slice(), shape(machine.state).as_str()), (*datagrams, *datagram_state), "{name}, UDP");
        let (actions, machine) = play(true, script);
        assert_eq!((actions.as_slice(), shape(machine.state).as_str()), (*stream, *stream_state), "{name}, TCP");
    }
}

#[test]
fn statuses_that_a_non_invite_is_never_answered_with() {
    assert_eq!(Event::of_status(100), Hundred);
    assert_eq!([101, 180, 183, 199].map(Event::of_status), [Provisional; 4]);
    assert_eq!(Event::of_status(408), Timeout);
    assert_eq!([200, 302, 401, 407, 409, 503, 699].map(Event::of_status), [Final; 7]);
}

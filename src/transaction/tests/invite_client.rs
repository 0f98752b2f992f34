//! RFC 3261 figure 5 as changed by RFC 6026 figure 2, row by row, with Timer C and CANCEL.

use super::super::tests::clock::{ms, since};
use super::Event::{Cancel, Failure, Provisional, Success, TransportError, Trying};
use super::*;

/// `(after so many ms, what)`; no event: the timer that is due then.
type Script<'s> = &'s [(u64, Option<Event>)];

fn play(reliable: bool, script: Script<'_>) -> (Vec<Action>, InviteClient) {
    let timers = Timers::default();
    let mut machine = InviteClient::new(reliable, &timers, ms(0));
    let mut last = drain(&mut machine);
    for &(at, event) in script {
        match event {
            Some(event) => machine.handle(event, &timers, ms(at)),
            None => machine.handle_timeout(&timers, ms(at)),
        }
        last = drain(&mut machine);
    }
    (last, machine)
}

fn drain(machine: &mut InviteClient) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll_action()).collect()
}

fn shape(state: State) -> String {
    match state {
        State::Calling { a, b, c, cancel } => {
            let a = a.map_or("off".to_string(), |a| since(a.at).to_string());
            let cancel = if cancel { " cancel" } else { "" };
            format!("Calling a={a} b={} c={}{cancel}", since(b), since(c))
        }
        State::Proceeding { c } => format!("Proceeding c={}", since(c)),
        State::Cancelling { end, sent } => {
            format!("Cancelling end={}{}", since(end), if sent { " sent" } else { "" })
        }
        State::Accepted { m } => format!("Accepted m={}", since(m)),
        State::Completed { d } => format!("Completed d={}", since(d)),
        State::Terminated => "Terminated".to_string(),
    }
}

/// (name, script, actions of its last step and state after it, on datagrams and on a stream)
type Row = (&'static str, Script<'static>, &'static [Action], &'static str, &'static [Action], &'static str);

#[test]
fn every_row() {
    use Action::{Ack, Answered, Completed, Deliver, Ended, Resend, Send, Timeout, TimerC};
    let rows: &[Row] = &[
        (
            "the INVITE is sent",
            &[],
            &[Send],
            "Calling a=500 b=32000 c=181000",
            &[Send],
            "Calling a=off b=32000 c=181000",
        ),
        (
            "A doubles without a cap",
            &[(500, None), (1500, None), (3500, None), (7500, None)],
            &[Resend],
            "Calling a=15500 b=32000 c=181000",
            &[],
            "Calling a=off b=32000 c=181000",
        ),
        ("B", &[(32_000, None)], &[Timeout, Ended], "Terminated", &[Timeout, Ended], "Terminated"),
        (
            "transport error in Calling",
            &[(1, Some(TransportError))],
            &[Action::TransportError, Ended],
            "Terminated",
            &[Action::TransportError, Ended],
            "Terminated",
        ),
        ("100 in Calling", &[(9, Some(Trying))], &[Deliver], "Proceeding c=181000", &[Deliver], "Proceeding c=181000"),
        (
            "180 in Calling",
            &[(9, Some(Provisional))],
            &[Deliver],
            "Proceeding c=181009",
            &[Deliver],
            "Proceeding c=181009",
        ),
        (
            "2xx in Calling",
            &[(9, Some(Success))],
            &[Deliver, Answered],
            "Accepted m=32009",
            &[Deliver, Answered],
            "Accepted m=32009",
        ),
        (
            "3xx–6xx in Calling",
            &[(9, Some(Failure))],
            &[Ack, Deliver, Completed],
            "Completed d=32009",
            &[Ack, Deliver, Ended],
            "Terminated",
        ),
        (
            "CANCEL in Calling waits",
            &[(9, Some(Cancel))],
            &[],
            "Calling a=500 b=32000 c=181000 cancel",
            &[],
            "Calling a=off b=32000 c=181000 cancel",
        ),
        (
            "CANCEL in Calling, then 100",
            &[(9, Some(Cancel)), (10, Some(Trying))],
            &[Deliver, Action::Cancel],
            "Cancelling end=32010 sent",
            &[Deliver, Action::Cancel],
            "Cancelling end=32010 sent",
        ),
        (
            "CANCEL in Calling, then 180",
            &[(9, Some(Cancel)), (10, Some(Provisional))],
            &[Deliver, Action::Cancel],
            "Cancelling end=32010 sent",
            &[Deliver, Action::Cancel],
            "Cancelling end=32010 sent",
        ),
        (
            "CANCEL in Calling, then 200: too late",
            &[(9, Some(Cancel)), (10, Some(Success))],
            &[Deliver, Answered],
            "Accepted m=32010",
            &[Deliver, Answered],
            "Accepted m=32010",
        ),
        (
            "CANCEL in Calling, then 486: needless",
            &[(9, Some(Cancel)), (10, Some(Failure))],
            &[Ack, Deliver, Completed],
            "Completed d=32010",
            &[Ack, Deliver, Ended],
            "Terminated",
        ),
        (
            "the INVITE goes on while the CANCEL waits",
            &[(9, Some(Cancel)), (500, None)],
            &[Resend],
            "Calling a=1500 b=32000 c=181000 cancel",
            &[],
            "Calling a=off b=32000 c=181000 cancel",
        ),
        (
            "100 in Proceeding leaves C",
            &[(9, Some(Provisional)), (20, Some(Trying))],
            &[Deliver],
            "Proceeding c=181009",
            &[Deliver],
            "Proceeding c=181009",
        ),
        (
            "101–199 in Proceeding restarts C",
            &[(9, Some(Provisional)), (60_000, Some(Provisional))],
            &[Deliver],
            "Proceeding c=241000",
            &[Deliver],
            "Proceeding c=241000",
        ),
        (
            "2xx in Proceeding",
            &[(9, Some(Trying)), (20, Some(Success))],
            &[Deliver, Answered],
            "Accepted m=32020",
            &[Deliver, Answered],
            "Accepted m=32020",
        ),
        (
            "3xx–6xx in Proceeding",
            &[(9, Some(Trying)), (20, Some(Failure))],
            &[Ack, Deliver, Completed],
            "Completed d=32020",
            &[Ack, Deliver, Ended],
            "Terminated",
        ),
        (
            "CANCEL in Proceeding",
            &[(9, Some(Trying)), (20, Some(Cancel))],
            &[Action::Cancel],
            "Cancelling end=32020 sent",
            &[Action::Cancel],
            "Cancelling end=32020 sent",
        ),
        (
            "transport error in Proceeding",
            &[(9, Some(Trying)), (20, Some(TransportError))],
            &[Action::TransportError, Ended],
            "Terminated",
            &[Action::TransportError, Ended],
            "Terminated",
        ),
        (
            "C asks for a CANCEL",
            &[(9, Some(Trying)), (181_000, None)],
            &[TimerC],
            "Cancelling end=213000",
            &[TimerC],
            "Cancelling end=213000",
        ),
        (
            "C, then the CANCEL",
            &[(9, Some(Trying)), (181_000, None), (181_001, Some(Cancel))],
            &[Action::Cancel],
            "Cancelling end=213001 sent",
            &[Action::Cancel],
            "Cancelling end=213001 sent",
        ),
        (
            "C, and nobody cancels",
            &[(9, Some(Trying)), (181_000, None), (213_000, None)],
            &[Timeout, Ended],
            "Terminated",
            &[Timeout, Ended],
            "Terminated",
        ),
        (
            "a second CANCEL",
            &[(9, Some(Trying)), (20, Some(Cancel)), (30, Some(Cancel))],
            &[],
            "Cancelling end=32020 sent",
            &[],
            "Cancelling end=32020 sent",
        ),
        (
            "1xx after CANCEL",
            &[(9, Some(Trying)), (20, Some(Cancel)), (30, Some(Provisional))],
            &[Deliver],
            "Cancelling end=32020 sent",
            &[Deliver],
            "Cancelling end=32020 sent",
        ),
        (
            "487 after CANCEL",
            &[(9, Some(Trying)), (20, Some(Cancel)), (30, Some(Failure))],
            &[Ack, Deliver, Completed],
            "Completed d=32030",
            &[Ack, Deliver, Ended],
            "Terminated",
        ),
        (
            "2xx after CANCEL",
            &[(9, Some(Trying)), (20, Some(Cancel)), (30, Some(Success))],
            &[Deliver, Answered],
            "Accepted m=32030",
            &[Deliver, Answered],
            "Accepted m=32030",
        ),
        (
            "silence after CANCEL",
            &[(9, Some(Trying)), (20, Some(Cancel)), (32_020, None)],
            &[Timeout, Ended],
            "Terminated",
            &[Timeout, Ended],
            "Terminated",
        ),
        (
            "2xx in Accepted, again or of another branch",
            &[(9, Some(Success)), (500, Some(Success))],
            &[Deliver],
            "Accepted m=32009",
            &[Deliver],
            "Accepted m=32009",
        ),
        (
            "1xx in Accepted",
            &[(9, Some(Success)), (20, Some(Provisional))],
            &[],
            "Accepted m=32009",
            &[],
            "Accepted m=32009",
        ),
        (
            "3xx–6xx in Accepted",
            &[(9, Some(Success)), (20, Some(Failure))],
            &[],
            "Accepted m=32009",
            &[],
            "Accepted m=32009",
        ),
        (
            "CANCEL in Accepted",
            &[(9, Some(Success)), (20, Some(Cancel))],
            &[],
            "Accepted m=32009",
            &[],
            "Accepted m=32009",
        ),
        (
            "transport error in Accepted",
            &[(9, Some(Success)), (20, Some(TransportError))],
            &[],
            "Accepted m=32009",
            &[],
            "Accepted m=32009",
        ),
        ("M", &[(9, Some(Success)), (32_009, None)], &[Ended], "Terminated", &[Ended], "Terminated"),
        ("a failure again", &[(9, Some(Failure)), (20, Some(Failure))], &[Ack], "Completed d=32009", &[], "Terminated"),
        ("1xx in Completed", &[(9, Some(Failure)), (20, Some(Trying))], &[], "Completed d=32009", &[], "Terminated"),
        ("2xx in Completed", &[(9, Some(Failure)), (20, Some(Success))], &[], "Completed d=32009", &[], "Terminated"),
        ("CANCEL in Completed", &[(9, Some(Failure)), (20, Some(Cancel))], &[], "Completed d=32009", &[], "Terminated"),
        ("D", &[(9, Some(Failure)), (32_009, None)], &[Ended], "Terminated", &[], "Terminated"),
    ];
    for (name, script, datagrams, datagram_state, stream, stream_state) in rows {
        let (actions, machine) = play(false, script);
        assert_eq!((actions.as_slice(), shape(machine.state).as_str()), (*datagrams, *datagram_state), "{name}, UDP");
        let (actions, machine) = play(true, script);
        assert_eq!((actions.as_slice(), shape(machine.state).as_str()), (*stream, *stream_state), "{name}, TCP");
    }
}

#[test]
fn unanswered_it_sends_seven_times_in_32_s() {
    let timers = Timers::default();
    let mut machine = InviteClient::new(false, &timers, ms(0));
    drain(&mut machine);
    let mut ladder = vec![];
    while let Some(at) = machine.poll_timeout() {
        machine.handle_timeout(&timers, at);
        ladder.extend(drain(&mut machine).into_iter().map(|action| (since(at), action)));
    }
    let mut expected: Vec<_> = [500, 1500, 3500, 7500, 15_500, 31_500].map(|at| (at, Action::Resend)).to_vec();
    expected.extend([(32_000, Action::Timeout), (32_000, Action::Ended)]);
    assert_eq!(ladder, expected);
}

#[test]
fn timer_c_is_longer_than_three_minutes_and_each_101_to_199_restarts_it() {
    assert!(Timers::default().timer_c > std::time::Duration::from_secs(180));
    let (_, machine) = play(true, &[(0, Some(Provisional)), (150_000, Some(Provisional)), (300_000, Some(Trying))]);
    assert_eq!(machine.poll_timeout(), Some(ms(150_000 + 181_000)));
}

#[test]
fn stopped_it_stays_open_for_an_answer_until_b() {
    let (_, mut machine) = play(false, &[(500, None)]);
    machine.stop_retransmitting();
    assert_eq!(shape(machine.state), "Calling a=off b=32000 c=181000");
}

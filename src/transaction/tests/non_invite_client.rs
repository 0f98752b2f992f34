//! RFC 3261 figure 6, row by row.

use super::super::tests::clock::{ms, since};
use super::Event::{Final, Provisional, TransportError};
use super::*;

/// `(after so many ms, what)`; no event: the timer that is due then.
type Script<'s> = &'s [(u64, Option<Event>)];

fn play(reliable: bool, script: Script<'_>) -> (Vec<Action>, NonInviteClient) {
    let timers = Timers::default();
    let mut machine = NonInviteClient::new(reliable, &timers, ms(0));
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

fn drain(machine: &mut NonInviteClient) -> Vec<Action> {
    std::iter::from_fn(|| machine.poll_action()).collect()
}

fn shape(state: State) -> String {
    let e = |e: Option<Resend>| e.map_or("off".to_string(), |e| since(e.at).to_string());
    match state {
        State::Trying { e: resend, f } => format!("Trying e={} f={}", e(resend), since(f)),
        State::Proceeding { e: resend, f } => format!("Proceeding e={} f={}", e(resend), since(f)),
        State::Completed { k } => format!("Completed k={}", since(k)),
        State::Terminated => "Terminated".to_string(),
    }
}

/// (name, script, actions of its last step on datagrams and on a stream, state after it on both)
type Row = (&'static str, Script<'static>, &'static [Action], &'static str, &'static [Action], &'static str);

#[test]
fn every_row() {
    use Action::{Completed, Deliver, Ended, Resend, Send, Timeout};
    let rows: &[Row] = &[
        ("the request is sent", &[], &[Send], "Trying e=500 f=32000", &[Send], "Trying e=off f=32000"),
        ("E in Trying doubles", &[(500, None)], &[Resend], "Trying e=1500 f=32000", &[], "Trying e=off f=32000"),
        (
            "E in Trying doubles to T2",
            &[(500, None), (1500, None), (3500, None), (7500, None)],
            &[Resend],
            "Trying e=11500 f=32000",
            &[],
            "Trying e=off f=32000",
        ),
        ("nothing is due yet", &[(499, None)], &[], "Trying e=500 f=32000", &[], "Trying e=off f=32000"),
        ("F in Trying", &[(32_000, None)], &[Timeout, Ended], "Terminated", &[Timeout, Ended], "Terminated"),
        (
            "1xx in Trying",
            &[(100, Some(Provisional))],
            &[Deliver],
            "Proceeding e=500 f=32000",
            &[Deliver],
            "Proceeding e=off f=32000",
        ),
        (
            "2xx–6xx in Trying",
            &[(100, Some(Final))],
            &[Deliver, Completed],
            "Completed k=5100",
            &[Deliver, Ended],
            "Terminated",
        ),
        (
            "transport error in Trying",
            &[(100, Some(TransportError))],
            &[Action::TransportError, Ended],
            "Terminated",
            &[Action::TransportError, Ended],
            "Terminated",
        ),
        (
            "E in Proceeding is T2",
            &[(100, Some(Provisional)), (500, None)],
            &[Resend],
            "Proceeding e=4500 f=32000",
            &[],
            "Proceeding e=off f=32000",
        ),
        (
            "F in Proceeding",
            &[(100, Some(Provisional)), (32_000, None)],
            &[Timeout, Ended],
            "Terminated",
            &[Timeout, Ended],
            "Terminated",
        ),
        (
            "1xx in Proceeding",
            &[(100, Some(Provisional)), (200, Some(Provisional))],
            &[Deliver],
            "Proceeding e=500 f=32000",
            &[Deliver],
            "Proceeding e=off f=32000",
        ),
        (
            "2xx–6xx in Proceeding",
            &[(100, Some(Provisional)), (200, Some(Final))],
            &[Deliver, Completed],
            "Completed k=5200",
            &[Deliver, Ended],
            "Terminated",
        ),
        (
            "transport error in Proceeding",
            &[(100, Some(Provisional)), (200, Some(TransportError))],
            &[Action::TransportError, Ended],
            "Terminated",
            &[Action::TransportError, Ended],
            "Terminated",
        ),
        ("1xx in Completed", &[(1, Some(Final)), (2, Some(Provisional))], &[], "Completed k=5001", &[], "Terminated"),
        ("a second final", &[(1, Some(Final)), (2, Some(Final))], &[], "Completed k=5001", &[], "Terminated"),
        (
            "late transport error",
            &[(1, Some(Final)), (2, Some(TransportError))],
            &[],
            "Completed k=5001",
            &[],
            "Terminated",
        ),
        ("K", &[(1, Some(Final)), (5001, None)], &[Ended], "Terminated", &[], "Terminated"),
        (
            "nothing after the end",
            &[(1, Some(Final)), (5001, None), (6000, Some(Final))],
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
fn unanswered_it_sends_eleven_times_in_32_s() {
    let timers = Timers::default();
    let mut machine = NonInviteClient::new(false, &timers, ms(0));
    drain(&mut machine);
    let mut ladder = vec![];
    while let Some(at) = machine.poll_timeout() {
        machine.handle_timeout(&timers, at);
        ladder.extend(drain(&mut machine).into_iter().map(|action| (since(at), action)));
    }
    let sends = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    let mut expected: Vec<_> = sends.map(|at| (at, Action::Resend)).to_vec();
    expected.extend([(32_000, Action::Timeout), (32_000, Action::Ended)]);
    assert_eq!(ladder, expected);
}

#[test]
fn stopped_it_stays_open_for_an_answer_until_f() {
    let (_, mut machine) = play(false, &[(500, None)]);
    machine.stop_retransmitting();
    assert_eq!(shape(machine.state), "Trying e=off f=32000");
    machine.handle(Final, &Timers::default(), ms(9000));
    assert_eq!(drain(&mut machine), [Action::Deliver, Action::Completed]);
}

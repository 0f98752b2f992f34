//! What an INVITE and a plain request wish for.

use super::*;

fn invite(course: Course, within: bool) -> impl FnOnce(Instant) -> Relay {
    move |_| Relay::Invite(InviteRelay::new(course, within))
}

/// What an INVITE wishes for whose branches meet this.
fn call(meets: &[Meets]) -> Vec<String> {
    Table::new(&["a", "b", "c"], invite(Course::Active, false), policy(), meets).play(60)
}

#[test]
fn an_invite_that_nobody_answers_goes_once_to_the_next_target() {
    for (meets, wishes) in [
        (&[Status(486)][..], &["0 launch a", "0 relay a"][..]),
        (&[Silence, Status(200)], &["0 launch a", "4 hush, launch b", "4 relay b, cancel for 200"]),
        (&[Silence, Provisional], &["0 launch a", "4 hush, launch b", "4 cancel for 200, relay b"]),
        (&[Refused, Status(200)], &["0 launch a", "0 launch b", "0 relay b"]),
        (&[Refused, Refused], &["0 launch a", "0 launch b", "0 answer 500"]),
        (&[Provisional], &["0 launch a", "0 relay a"]),
        // The first target was only slow: its answer comes after the second one's failure.
        (&[Late(200, 6), Status(503)], &["0 launch a", "4 hush, launch b", "4 relay b, cancel for 503", "6 relay a"]),
        // The newer branch may still do better than the older one's failure.
        (&[Late(503, 5), Late(486, 3)], &["0 launch a", "4 hush, launch b", "5 keep", "7 relay b"]),
    ] {
        assert_eq!(call(meets), wishes, "{meets:?}");
    }
}

#[test]
fn a_request_within_a_dialog_stays_with_its_target_and_ends_if_that_is_left_and_silent() {
    let within = |relay: fn(Course) -> Relay| {
        let course = Course::Target(TargetId::from("a.example.com:5060"), None);
        let mut table = Table::new(&["a", "b"], |_| relay(course), policy(), &[]);
        table.upstream.roll(None, table.now).expect("b is next");
        table.play(60)
    };
    let re_invite = within(|course| Relay::Invite(InviteRelay::new(course, true)));
    assert_eq!(re_invite, ["0 launch a", "4 answer 408, cancel for 408, hush"]);
    let subscribe = within(|course| Relay::Plain(PlainRelay::new(course, Method::Subscribe)));
    assert_eq!(subscribe, ["0 launch a", "4 answer 481, forget"]);
    let bye = within(|course| Relay::Plain(PlainRelay::new(course, Method::Bye)));
    assert_eq!(bye, ["0 launch a", "4 answer 504, forget"]);
}

#[test]
fn a_cancelled_invite_is_not_sent_any_more_or_cancelled_where_it_is() {
    let mut table = Table::new(&["a"], invite(Course::Active, false), policy(), &[Silence]);
    table.feed(In::Begin);
    table.feed(In::Cancelled);
    assert_eq!(table.lines, ["0 launch a", "0 cancel as asked"]);

    // Its connection is still being opened: there is nothing to wait for.
    let mut table = Table::new(&["a"], invite(Course::Active, false), policy(), &[Silence]);
    table.feed(In::Begin);
    if let Some(branch) = table.relay.branches_mut().get_mut(BranchId(0)) {
        branch.state = State::Opening { conn: ConnId::Dialled(1), until: None };
    }
    table.feed(In::Cancelled);
    assert_eq!(table.lines, ["0 launch a", "0 answer 487"]);
}

#[test]
fn a_plain_request_has_one_branch_and_ends_in_silence() {
    let message = |meets: &[Meets]| {
        let relay = |_| Relay::Plain(PlainRelay::new(Course::Active, Method::Message));
        Table::new(&["a", "b"], relay, policy(), meets).play(60)
    };
    assert_eq!(message(&[Status(202)]), ["0 launch a", "0 relay a"]);
    assert_eq!(message(&[Refused]), ["0 launch a", "0 answer 500"]);
    assert_eq!(message(&[Silence]), ["0 launch a"]);
    let to_handset =
        Flow::Udp { socket: SocketId(0), local: ([10, 0, 0, 1], 5060).into(), remote: ([10, 0, 0, 9], 5060).into() };
    let relay = |_| Relay::Plain(PlainRelay::new(Course::Handset(to_handset, (480, "Gone")), Method::Notify));
    assert_eq!(Table::new(&["a"], relay, policy(), &[Refused]).play(60), ["0 send", "0 answer 480"]);
}

/// glibc keeps freed blocks of up to 1032 bytes at hand; larger ones cost a search and a merge each time.
#[test]
fn what_every_register_allocates_stays_small() {
    for (what, size) in [
        ("exchange", size_of::<Exchange>()),
        ("registering", size_of::<Registering>()),
        ("message", size_of::<Message>()),
    ] {
        assert!(size <= 1_032, "{what}: {size} bytes");
    }
}

#[test]
fn a_branch_that_lost_the_call_is_not_sent_again() {
    let mut table = Table::new(&["a", "b"], invite(Course::Active, false), policy(), &[Silence, Status(200), Silence]);
    table.feed(In::Begin);
    table.go_on(5);
    // The first connection had been open before.
    table.now = table.begun + Duration::from_secs(20);
    if let Some(branch) = table.relay.branches_mut().get_mut(BranchId(0)) {
        let client = branch.client().expect("sent");
        branch.sent(client, Flow::Conn(ConnId::Dialled(1)), true);
    }
    table.feed(In::Lost(BranchId(0), Cause::Timeout.into()));
    assert_eq!(table.lines, ["0 launch a", "4 hush, launch b", "4 relay b, cancel for 200"]);
}

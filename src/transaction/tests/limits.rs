//! Everything that grows has a limit, and an answer at the limit.

use super::clock::ms;
use super::*;

fn msg(n: u32) -> Message {
    request("REGISTER", &format!("z9hG4bK-{n}"), n)
}

#[test]
fn full_of_live_ones_the_newcomer_is_refused() {
    let mut tx = tables_of(3);
    receive_new(&mut tx, &msg(1), 0);
    receive_new(&mut tx, &msg(2), 0);
    let client = send(&mut tx, &msg(1), 0);
    assert_eq!(receive(&mut tx, &msg(3), 1), Inbound::Full);
    assert_eq!(receive(&mut tx, &msg(1), 1), Inbound::Retransmission, "who is in stays in");
    assert_eq!(send_on(&mut tx, &msg(3), target(), false, 1), Err(TableFull));
    tx.drop_client(client);
    receive_new(&mut tx, &msg(3), 3);
    assert_quiet(&mut tx);
}

#[test]
fn the_oldest_completed_one_goes_first_of_either_side() {
    let mut tx = tables_of(4);
    let one = receive_new(&mut tx, &msg(1), 0);
    let two = receive_new(&mut tx, &msg(2), 0);
    send(&mut tx, &msg(3), 0);
    receive_new(&mut tx, &msg(4), 0);
    respond(&mut tx, two, &msg(2), 200, 10);
    assert_eq!(answer(&mut tx, &msg(3), 200, 20), Some(200));
    tx.abandon(one, ms(30));
    asked(&mut tx);

    let five = receive_new(&mut tx, &msg(5), 40);
    assert_eq!(asked(&mut tx), ["server ended"]);
    assert!(!respond(&mut tx, two, &msg(2), 200, 40));
    receive_new(&mut tx, &msg(6), 40);
    assert_eq!(asked(&mut tx), ["client ended"]);
    receive_new(&mut tx, &msg(7), 40);
    assert_eq!(asked(&mut tx), ["server ended"]);
    assert_eq!(receive(&mut tx, &msg(8), 40), Inbound::Full, "4 to 7 are live");
    respond(&mut tx, five, &msg(5), 200, 50);
    receive_new(&mut tx, &msg(1), 60);
    assert_eq!(tx.len(), 4);
    assert_quiet(&mut tx);
}

#[test]
fn an_accepted_invite_gives_way_two_seconds_later_and_after_all_completed_ones() {
    let mut tx = tables_of(3);
    let invite = request("INVITE", "z9hG4bKx", 1);
    let id = receive_new(&mut tx, &invite, 0);
    respond(&mut tx, id, &invite, 200, 10);
    let sent = request("INVITE", "z9hG4bKy", 2);
    send(&mut tx, &sent, 20);
    assert_eq!(answer(&mut tx, &sent, 200, 30), Some(200));
    let other = receive_new(&mut tx, &msg(1), 40);
    asked(&mut tx);
    assert_eq!((tx.len(), tx.open()), (3, 1));
    assert_eq!(receive(&mut tx, &msg(2), 2009), Inbound::Full, "the 2xx may have to pass again");
    respond(&mut tx, other, &msg(1), 200, 2009);
    receive_new(&mut tx, &msg(2), 2010);
    assert!(respond(&mut tx, id, &invite, 200, 2010), "the completed one went first");
    asked(&mut tx);
    receive_new(&mut tx, &msg(3), 2010);
    assert_eq!(asked(&mut tx), ["server ended"]);
    assert!(!respond(&mut tx, id, &invite, 200, 2010));
    assert_eq!(receive(&mut tx, &msg(4), 2029), Inbound::Full);
    receive_new(&mut tx, &msg(4), 2030);
    assert_eq!(asked(&mut tx), ["client ended"]);
    assert_eq!(receive(&mut tx, &msg(5), 9000), Inbound::Full, "2 to 4 are open");
    assert_quiet(&mut tx);
}

#[test]
fn a_refused_invite_gives_way_though_nobody_acknowledges_it() {
    let mut tx = tables_of(1);
    let invite = request("INVITE", "z9hG4bKx", 1);
    let id = receive_new(&mut tx, &invite, 0);
    respond(&mut tx, id, &invite, 404, 10);
    assert_eq!(tx.open(), 0);
    assert_eq!(receive(&mut tx, &msg(1), 2009), Inbound::Full);
    receive_new(&mut tx, &msg(1), 2010);
    assert_quiet(&mut tx);
}

#[test]
fn for_bytes_what_completed_first_goes_first_and_nothing_that_is_open() {
    let mut tx = tables();
    let ids: Vec<_> = (0..5).map(|n| receive_new(&mut tx, &msg(n), 0)).collect();
    for n in [3, 1, 2] {
        respond(&mut tx, ids[n as usize], &msg(n), 200, 10);
    }
    asked(&mut tx);
    let each = tx.held() / 3;
    tx.relieve(3 * each);
    assert_eq!(tx.len(), 5);
    tx.relieve(3 * each - 1);
    assert_eq!((tx.len(), asked(&mut tx).len()), (4, 1));
    assert_eq!(receive(&mut tx, &msg(1), 20), Inbound::Retransmission, "3 went");
    tx.relieve(0);
    assert_eq!((tx.len(), tx.held(), tx.open()), (2, 0, 2));
    assert_quiet(&mut tx);
}

#[test]
fn what_is_restrained_repeats_no_more_than_its_allowance_and_still_answers_who_asks() {
    let invite = request("INVITE", "z9hG4bKx", 1);
    let size = response(&invite, 404, "b1").bytes().len();
    for (allowance, repeats) in
        [(None, 10), (Some(0), 0), (Some(2 * size - 1), 0), (Some(2 * size), 1), (Some(4 * size), 3)]
    {
        let mut tx = tables();
        let id = receive_new(&mut tx, &invite, 0);
        if let Some(allowance) = allowance {
            tx.restrain(id, allowance);
        }
        respond(&mut tx, id, &invite, 404, 10);
        assert_eq!(asked(&mut tx), ["phone← 404"], "{allowance:?}");
        let repeated = pass_time(&mut tx, 32_000).iter().filter(|line| line.ends_with("404 again")).count();
        assert_eq!(repeated, repeats, "{allowance:?}");
        assert_eq!(receive(&mut tx, &invite, 32_001), Inbound::Retransmission);
        assert_eq!(asked(&mut tx), ["phone← 404 again"], "{allowance:?}");
        assert_quiet(&mut tx);
    }
}

#[test]
fn what_was_just_received_can_be_forgotten_without_a_word() {
    let mut tx = tables_of(1);
    let id = receive_new(&mut tx, &msg(1), 0);
    tx.discard(id);
    tx.discard(id);
    assert_eq!((tx.len(), tx.open(), asked(&mut tx).len()), (0, 0, 0));
    receive_new(&mut tx, &msg(1), 1);
}

#[test]
fn at_the_limit_a_cancel_of_ours_goes_out_once() {
    let mut tx = tables_of(1);
    let invite = request("INVITE", "z9hG4bK-1", 1);
    let id = send(&mut tx, &invite, 0);
    answer(&mut tx, &invite, 180, 10);
    assert!(tx.cancel_bytes(id, &[]).is_some());
    tx.cancel(id, &[], ms(20));
    assert_eq!(asked(&mut tx), ["target← INVITE", "target← CANCEL"]);
    assert_eq!(tx.len(), 1);
    assert_quiet(&mut tx);
}

#[test]
fn a_flood_leaves_no_more_than_the_limit_behind() {
    let mut tx = tables_of(100);
    for n in 0..20_000 {
        let msg = msg(n);
        let at = u64::from(n) / 20;
        let id = receive_new(&mut tx, &msg, at);
        respond(&mut tx, id, &msg, 200, at);
        while tx.poll_action().is_some() {}
        assert!(tx.len() <= 100);
        assert!(tx.wakes.len() <= 2 * 100 + SLACK + 1, "{}", tx.wakes.len());
        assert!(tx.completed.len() <= 2 * 100 + SLACK + 1, "{}", tx.completed.len());
    }
    assert_quiet(&mut tx);
}

#[test]
fn a_completed_server_transaction_is_small() {
    let size = size_of::<Server>();
    assert!(size <= 192, "{size} bytes beside the response's own");
}

#[test]
fn cancelled_timers_wake_nobody() {
    let mut tx = tables();
    for n in 0..50 {
        send(&mut tx, &msg(n), 0);
        assert_eq!(answer(&mut tx, &msg(n), 200, 1), Some(200));
    }
    send(&mut tx, &msg(99), 300);
    // The fifty cancelled Timers E come up once, and then the next deadline is one that a transaction waits for.
    tx.handle_timeout(ms(500));
    assert_eq!(tx.poll_timeout(), Some(ms(800)));
}

#[test]
fn another_limit_counts_from_the_next_request_on() {
    let mut tx = tables_of(3);
    assert!(tx.is_empty());
    receive_new(&mut tx, &msg(1), 0);
    assert!(!tx.is_empty());
    tx.set_limit(1);
    assert_eq!(receive(&mut tx, &msg(2), 1), Inbound::Full);
    tx.set_limit(2);
    receive_new(&mut tx, &msg(2), 2);
    tx.set_limit(0);
    assert_eq!(receive(&mut tx, &msg(3), 3), Inbound::Full, "at least one");
    assert_eq!(tx.len(), 2, "those that are there end in their own time");
    assert_quiet(&mut tx);
    receive_new(&mut tx, &msg(4), 3_600_000);
}

#[test]
fn it_wants_something_until_the_last_action_is_taken() {
    let mut tx = tables();
    assert!(!tx.wants_something());
    send(&mut tx, &msg(1), 0);
    assert!(tx.wants_something());
    assert_eq!(asked(&mut tx), ["target← REGISTER"]);
    assert!(!tx.wants_something());
}

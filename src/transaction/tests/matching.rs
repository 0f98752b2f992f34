//! Which message belongs to which transaction.

use super::clock::ms;
use super::*;

#[test]
fn a_request_is_found_again_by_branch_whatever_the_case_of_its_host() {
    let mut tx = tables();
    let text = |host: &str| {
        let first = request("OPTIONS", "z9hG4bKx", 1);
        String::from_utf8_lossy(first.bytes()).replace("UDP 192.0.2.10:5060", &format!("UDP {host}"))
    };
    receive_new(&mut tx, &scan(&text("pc.Example.COM:5062")), 0);
    assert_eq!(receive(&mut tx, &scan(&text("PC.example.com:5062")), 1), Inbound::Retransmission);
    receive_new(&mut tx, &scan(&text("pc.example.com:5063")), 2);
    receive_new(&mut tx, &scan(&text("pc.example.com")), 3);
    receive_new(&mut tx, &scan(&text("other.example.com:5062")), 4);
    assert_eq!(tx.len(), 4);
}

#[test]
fn an_ack_of_nothing_is_the_callers() {
    assert_eq!(receive(&mut tables(), &request("ACK", "z9hG4bKx", 1), 0), Inbound::Ack);
}

#[test]
fn a_final_answer_is_replayed_where_the_retransmission_came_from() {
    let mut tx = tables();
    let msg = request("REGISTER", "z9hG4bKx", 1);
    let id = receive_new(&mut tx, &msg, 0);
    respond(&mut tx, id, &msg, 200, 10);
    assert_eq!(asked(&mut tx), ["phone← 200"]);
    assert_eq!(receive(&mut tx, &msg, 20), Inbound::Retransmission);
    assert_eq!(asked(&mut tx), ["phone← 200 again"]);
    // The handset's NAT has given it another port meanwhile.
    let moved = connection();
    assert_eq!(tx.receive_request(&msg, moved, moved, false, ms(30)), Inbound::Retransmission);
    assert_eq!(asked(&mut tx), ["connection← 200 again"]);
    assert_quiet(&mut tx);
}

#[test]
fn on_a_stream_a_server_transaction_ends_with_its_answer() {
    let mut tx = tables();
    let msg = request("REGISTER", "z9hG4bKx", 1);
    let Inbound::New(id) = tx.receive_request(&msg, connection(), connection(), true, ms(0)) else {
        panic!("a new transaction")
    };
    respond(&mut tx, id, &msg, 200, 10);
    assert_eq!(asked(&mut tx), ["connection← 200", "server ended"]);
    assert!(tx.is_empty());
}

#[test]
fn a_response_is_found_by_branch_and_method() {
    let mut tx = tables();
    let msg = request("OPTIONS", "z9hG4bK-ours", 1);
    let id = send(&mut tx, &msg, 0);
    let stranger = request("OPTIONS", "z9hG4bK-other", 1);
    assert_eq!(answer(&mut tx, &stranger, 200, 1), None);
    assert_eq!(answer(&mut tx, &request("CANCEL", "z9hG4bK-ours", 1), 200, 2), None);
    let good = response(&msg, 200, "b1");
    assert_eq!(take_response(&mut tx, &good, target(), ms(3)), Some(Answer { client: id, status: 200 }));
    assert_eq!(take_response(&mut tx, &good, target(), ms(4)), None, "a retransmission is absorbed");
    assert_eq!(asked(&mut tx), ["target← OPTIONS"]);
    assert_eq!(pass_time(&mut tx, 60_000), ["5003 client ended"]);
    assert_quiet(&mut tx);
}

#[test]
fn a_response_counts_only_if_the_caller_accepts_where_it_came_from() {
    let msg = request("REGISTER", "z9hG4bK-ours", 1);
    let good = response(&msg, 200, "b1");
    let mut tx = tables();
    let client = send_on(&mut tx, &msg, connection(), true, 0).expect("room");
    assert_eq!(tx.receive_response_if(&good, ms(1), |_, _| false), Received::Stray);
    assert_eq!(
        take_response(&mut tx, &good, Flow::Conn(ConnId::Dialled(2)), ms(1)),
        None,
        "the caller is asked about the request's flow"
    );
    let accepted = tx.receive_response_if(&good, ms(1), |sent, _| sent == connection());
    assert_eq!(accepted, Received::New(Answer { client, status: 200 }), "what was refused has changed nothing");
    assert_eq!(asked(&mut tx), ["connection← REGISTER", "client ended"]);
}

#[test]
fn a_failed_flow_ends_what_waits_on_it_and_nothing_else() {
    let mut tx = tables();
    for n in 0..5 {
        let flow = if n == 2 { target() } else { connection() };
        send_on(&mut tx, &request("REGISTER", &format!("z9hG4bK-{n}"), n), flow, false, 0).expect("room");
    }
    answer_on_connection(&mut tx, &request("REGISTER", "z9hG4bK-0", 0));
    assert_eq!((tx.open_on(connection()), tx.open_on(target())), (3, 1));
    asked(&mut tx);
    tx.transport_error(connection(), Cause::Reset, ms(2));
    assert_eq!(
        asked(&mut tx),
        ["transport error", "client ended", "transport error", "client ended", "transport error", "client ended"]
    );
    assert_eq!((tx.open_on(connection()), tx.open_on(target()), tx.len()), (0, 1, 2));
    assert_quiet(&mut tx);
}

fn answer_on_connection(tx: &mut Transactions, to: &Message) {
    let good = response(to, 200, "b1");
    assert!(take_response(tx, &good, connection(), ms(1)).is_some());
}

#[test]
fn silence_times_out_and_then_ends() {
    let mut tx = tables();
    send(&mut tx, &request("REGISTER", "z9hG4bK-ours", 1), 0);
    asked(&mut tx);
    let ladder = pass_time(&mut tx, 60_000);
    assert_eq!(ladder.first().map(String::as_str), Some("500 target← REGISTER again"));
    assert_eq!(ladder[ladder.len() - 2..], ["32000 timeout", "32000 client ended"]);
    assert_quiet(&mut tx);
}

#[test]
fn stopped_it_sends_no_more_and_still_takes_an_answer() {
    let mut tx = tables();
    let msg = request("REGISTER", "z9hG4bK-ours", 1);
    let id = send(&mut tx, &msg, 0);
    pass_time(&mut tx, 4000);
    tx.stop_retransmitting(id);
    assert_eq!(pass_time(&mut tx, 31_999), [""; 0]);
    assert_eq!(tx.open_on(target()), 1);
    assert_eq!(answer(&mut tx, &msg, 200, 31_999), Some(200));
    assert_quiet(&mut tx);

    let id = send(&mut tx, &msg, 40_000);
    asked(&mut tx);
    tx.stop_retransmitting(id);
    assert_eq!(pass_time(&mut tx, 80_000)[..], ["72000 timeout", "72000 client ended"]);
}

#[test]
fn numbers_kept_too_long_are_ignored() {
    let mut tx = tables();
    let msg = request("REGISTER", "z9hG4bKx", 1);
    let server = receive_new(&mut tx, &msg, 0);
    let client = send(&mut tx, &msg, 0);
    pass_time(&mut tx, 60_000);
    // Others have their places now.
    let other = request("REGISTER", "z9hG4bKy", 2);
    receive_new(&mut tx, &other, 60_000);
    send(&mut tx, &other, 60_000);
    asked(&mut tx);
    assert!(!respond(&mut tx, server, &msg, 200, 60_001));
    tx.abandon(server, ms(60_001));
    tx.stop_retransmitting(client);
    tx.cancel(client, &[], ms(60_001));
    tx.drop_client(client);
    assert_eq!(tx.cancel_bytes(client, &[]), None);
    assert_eq!((asked(&mut tx), tx.len()), (vec![], 2));
    assert_quiet(&mut tx);
}

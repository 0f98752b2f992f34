//! What has bitten other implementations (`docs/pitfalls.md`), as far as it lives in this layer.

use super::clock::ms;
use super::*;

#[test]
fn late_answers_to_a_dropped_branch_are_absorbed() {
    let mut tx = tables();
    let (first, second) = (request("REGISTER", "z9hG4bK-1", 1), request("REGISTER", "z9hG4bK-2", 1));
    let dropped = send(&mut tx, &first, 0);
    let kept = send(&mut tx, &second, 4000);
    asked(&mut tx);
    tx.drop_client(dropped);
    assert_eq!(answer(&mut tx, &first, 503, 4100), None);
    let good = take_response(&mut tx, &response(&second, 200, "b1"), target(), ms(4200));
    assert_eq!(good, Some(Answer { client: kept, status: 200 }));
    assert_eq!(pass_time(&mut tx, 60_000), ["9200 client ended"], "of the dropped one nothing is heard");
    assert_quiet(&mut tx);
}

#[test]
fn an_older_branch_that_was_not_dropped_still_answers() {
    let mut tx = tables();
    let (first, second) = (request("REGISTER", "z9hG4bK-1", 1), request("REGISTER", "z9hG4bK-2", 1));
    let older = send(&mut tx, &first, 0);
    tx.stop_retransmitting(older);
    send(&mut tx, &second, 4000);
    assert_eq!(answer(&mut tx, &first, 200, 9000), Some(200));
    assert_quiet(&mut tx);
}

#[test]
fn a_late_2xx_to_a_cancelled_invite_is_forwarded() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bK-1", 1);
    let id = send(&mut tx, &invite, 0);
    assert_eq!(answer(&mut tx, &invite, 180, 100), Some(180));
    assert!(tx.cancel_bytes(id, &[]).is_some());
    tx.cancel(id, &[], ms(200));
    assert_eq!(answer(&mut tx, &invite, 200, 300), Some(200));
    assert_quiet(&mut tx);
}

#[test]
fn ack_for_a_failure_is_hop_by_hop() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bK-1", 7);
    send(&mut tx, &invite, 0);
    sent(&mut tx);
    let busy = response(&invite, 486, "callee");
    assert!(take_response(&mut tx, &busy, target(), ms(50)).is_some());
    let acks = sent(&mut tx);
    let expected = "ACK sip:bob@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-1\r\n\
         Max-Forwards: 70\r\n\
         Route: <sip:one.example.com;lr>, <sip:two.example.com;lr>\r\n\
         Route: <sip:three.example.com;lr>\r\n\
         From: Alice <sip:alice@example.com>;tag=a1\r\n\
         To: <sip:bob@example.com>;tag=callee\r\n\
         Call-ID: call-1@192.0.2.10\r\n\
         CSeq: 7 ACK\r\n\
         Content-Length: 0\r\n\r\n";
    assert_eq!(acks.iter().map(|ack| String::from_utf8_lossy(ack.bytes())).collect::<Vec<_>>(), [expected]);
    // The failure again: so is the ACK, and the caller is not told of it.
    assert!(take_response(&mut tx, &busy, target(), ms(550)).is_none());
    assert_eq!(asked(&mut tx), ["target← ACK again"]);
    assert_quiet(&mut tx);
}

#[test]
fn only_the_top_via_of_several_goes_into_the_ack() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bK-1", 7);
    let text = String::from_utf8_lossy(invite.bytes())
        .replace("branch=z9hG4bK-1\r\n", "branch=z9hG4bK-1, SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK-0\r\n");
    let invite = scan(&text);
    send(&mut tx, &invite, 0);
    sent(&mut tx);
    answer(&mut tx, &invite, 404, 10);
    let acks = sent(&mut tx);
    assert_eq!(acks[0].vias().count(), 1);
    assert_eq!(acks[0].vias().flatten().count(), 1);
}

#[test]
fn a_swallowed_failure_is_acknowledged_on_its_flow() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bK-1", 7);
    let id = send_on(&mut tx, &invite, connection(), true, 0).expect("room");
    tx.drop_client(id);
    asked(&mut tx);
    let late = response(&invite, 503, "callee");
    assert_eq!(take_response(&mut tx, &late, connection(), ms(5000)), None);
    assert_eq!(asked(&mut tx), ["connection← ACK"]);
    assert_quiet(&mut tx);
}

#[test]
fn ack_of_a_failure_ends_here_and_ack_of_a_2xx_goes_on() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bKx", 1);
    let id = receive_new(&mut tx, &invite, 0);
    respond(&mut tx, id, &invite, 486, 10);
    asked(&mut tx);
    assert_eq!(pass_time(&mut tx, 600), ["510 phone← 486 again"]);
    assert_eq!(receive(&mut tx, &request("ACK", "z9hG4bKx", 1), 700), Inbound::AckAbsorbed);
    assert_eq!(receive(&mut tx, &request("ACK", "z9hG4bKx", 1), 710), Inbound::AckAbsorbed);
    assert_eq!(pass_time(&mut tx, 60_000), ["5700 server ended"]);

    // The 2xx's ACK has a branch of its own, but for handsets that keep the INVITE's.
    let invite = request("INVITE", "z9hG4bKy", 2);
    let id = receive_new(&mut tx, &invite, 60_000);
    respond(&mut tx, id, &invite, 200, 60_010);
    assert_eq!(receive(&mut tx, &request("ACK", "z9hG4bKz", 2), 60_020), Inbound::Ack);
    assert_eq!(receive(&mut tx, &request("ACK", "z9hG4bKy", 2), 60_030), Inbound::Ack);
    assert_quiet(&mut tx);
}

#[test]
fn cancel_waits_for_a_provisional_and_takes_the_invites_branch_and_flow() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bK-1", 7);
    let id = send(&mut tx, &invite, 0);
    asked(&mut tx);
    assert!(tx.cancel_bytes(id, &[]).is_some());
    tx.cancel(id, &[], ms(100));
    assert_eq!(asked(&mut tx), [""; 0]);
    assert_eq!(pass_time(&mut tx, 600), ["500 target← INVITE again"]);
    assert_eq!(answer(&mut tx, &invite, 100, 700), Some(100));
    let cancels = sent(&mut tx);
    assert_eq!(cancels.len(), 1);
    let (cancel, buf) = (&cancels[0], cancels[0].bytes().as_ref());
    assert_eq!(cancel.method(), Method::Cancel);
    assert_eq!(cancel.request_uri().of(buf), b"sip:bob@example.com");
    assert_eq!(cancel.top_via().and_then(|via| via.branch).map(|span| span.of(buf)), Some(&b"z9hG4bK-1"[..]));
    assert_eq!(cancel.cseq().map(|cseq| cseq.number), Some(7));
    assert_eq!(cancel.to_tag(), None);
    // The loss of the CANCEL's answer is reported to nobody: the CANCEL is a transaction of its own.
    assert_eq!(pass_time(&mut tx, 1300), ["1200 target← CANCEL again"]);
    assert_eq!(answer(&mut tx, cancel, 200, 1400), None);
    assert_eq!(answer(&mut tx, &invite, 487, 1500), Some(487));
    assert_eq!(asked(&mut tx), ["target← ACK"]);
    assert_eq!(pass_time(&mut tx, 60_000), ["33500 client ended"]);
    assert_quiet(&mut tx);
}

#[test]
fn no_cancel_after_a_final_answer() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bK-1", 7);
    let id = send(&mut tx, &invite, 0);
    assert!(tx.cancel_bytes(id, &[]).is_some());
    tx.cancel(id, &[], ms(10));
    assert_eq!(answer(&mut tx, &invite, 200, 20), Some(200));
    tx.cancel(id, &[], ms(30));
    assert_eq!(asked(&mut tx), ["target← INVITE"]);
    assert_quiet(&mut tx);
}

#[test]
fn a_cancelled_invite_that_stays_silent_times_out() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bK-1", 7);
    let id = send_on(&mut tx, &invite, connection(), true, 0).expect("room");
    let ringing = response(&invite, 180, "b1");
    assert!(take_response(&mut tx, &ringing, connection(), ms(100)).is_some());
    assert!(tx.cancel_bytes(id, &[]).is_some());
    tx.cancel(id, &[], ms(200));
    assert_eq!(asked(&mut tx), ["connection← INVITE", "connection← CANCEL"]);
    assert_eq!(pass_time(&mut tx, 60_000), ["32200 timeout", "32200 client ended"]);
    assert_quiet(&mut tx);
}

#[test]
fn a_cancel_finds_its_invite_or_nothing() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bKx", 1);
    let id = receive_new(&mut tx, &invite, 0);
    let cancel = request("CANCEL", "z9hG4bKx", 1);
    let Inbound::Cancel { own, invite: found } = receive(&mut tx, &cancel, 10) else { panic!("a CANCEL") };
    assert_eq!(found, Some(id));
    respond(&mut tx, own, &cancel, 200, 10);
    respond(&mut tx, id, &invite, 487, 20);
    assert_eq!(receive(&mut tx, &cancel, 30), Inbound::Retransmission);
    assert_eq!(asked(&mut tx), ["phone← 200", "phone← 487", "phone← 200 again"]);
    for stray in [request("CANCEL", "z9hG4bKx", 2), request("CANCEL", "z9hG4bKy", 1)] {
        assert!(matches!(receive(&mut tx, &stray, 40), Inbound::Cancel { invite: None, .. }));
    }
    receive_new(&mut tx, &request("OPTIONS", "z9hG4bKo", 1), 50);
    let of_options = receive(&mut tx, &request("CANCEL", "z9hG4bKo", 1), 60);
    assert!(matches!(of_options, Inbound::Cancel { invite: None, .. }), "only an INVITE is cancelled");
    assert_quiet(&mut tx);
}

#[test]
fn invite_retransmissions_before_the_100_and_after_it_was_lost() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bKx", 1);
    let id = receive_new(&mut tx, &invite, 0);
    assert_eq!(receive(&mut tx, &invite, 500), Inbound::Retransmission);
    assert_eq!(asked(&mut tx), [""; 0], "nothing to say yet");
    respond(&mut tx, id, &invite, 100, 600);
    assert_eq!(receive(&mut tx, &invite, 1500), Inbound::Retransmission);
    respond(&mut tx, id, &invite, 180, 1600);
    assert_eq!(receive(&mut tx, &invite, 1700), Inbound::Retransmission);
    assert_eq!(asked(&mut tx), ["phone← 100", "phone← 100 again", "phone← 180", "phone← 180 again"]);
}

#[test]
fn retransmissions_of_a_2xx_pass_through_both_sides() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bKx", 1);
    let server = receive_new(&mut tx, &invite, 0);
    let onward = request("INVITE", "z9hG4bK-ours", 1);
    send(&mut tx, &onward, 0);
    asked(&mut tx);
    for at in [100, 600, 1600, 32_099] {
        assert_eq!(answer(&mut tx, &onward, 200, at), Some(200), "at {at}");
        assert!(respond(&mut tx, server, &invite, 200, at), "at {at}");
        assert_eq!(asked(&mut tx), ["phone← 200"], "at {at}");
    }
    assert_eq!(receive(&mut tx, &invite, 32_099), Inbound::Retransmission);
    assert_eq!(asked(&mut tx), [""; 0], "a 2xx is not replayed, RFC 6026");
    assert_eq!(pass_time(&mut tx, 60_000), ["32100 client ended", "32100 server ended"]);
    assert_eq!(answer(&mut tx, &onward, 200, 60_000), None, "after Timer M it is a stray");
    assert!(!respond(&mut tx, server, &invite, 200, 60_000), "after Timer L nothing is sent");
    assert_quiet(&mut tx);
}

#[test]
fn no_408_and_100_at_3_5_s_and_silence_at_the_end() {
    let mut tx = tables();
    let msg = request("REGISTER", "z9hG4bKx", 1);
    let id = receive_new(&mut tx, &msg, 0);
    assert!(!respond(&mut tx, id, &msg, 100, 3499));
    assert!(!respond(&mut tx, id, &msg, 180, 3500));
    assert!(respond(&mut tx, id, &msg, 100, 3500));
    assert_eq!(receive(&mut tx, &msg, 7500), Inbound::Retransmission);
    assert_eq!(asked(&mut tx), ["phone← 100", "phone← 100 again"]);
    assert!(!respond(&mut tx, id, &msg, 408, 15_000));
    assert_eq!(receive(&mut tx, &msg, 15_500), Inbound::Retransmission);
    assert!(!respond(&mut tx, id, &msg, 200, 16_000), "silence stays silence");
    assert_eq!(asked(&mut tx), [""; 0]);
    assert_eq!(pass_time(&mut tx, 60_000), ["37000 server ended"]);
    assert_quiet(&mut tx);
}

#[test]
fn a_408_of_the_next_hop_goes_on_for_as_long_as_the_phone_waits() {
    for method in ["REGISTER", "MESSAGE", "BYE"] {
        for (at, passes) in [(0, true), (31_999, true), (32_000, false), (33_000, false)] {
            let mut tx = tables();
            let msg = request(method, "z9hG4bKx", 1);
            let id = receive_new(&mut tx, &msg, 0);
            assert_eq!(pass_time(&mut tx, at), [""; 0]);
            assert_eq!(
                tx.relay(id, 408, response(&msg, 408, "p").bytes().clone(), clock::ms(at)),
                passes,
                "{method} {at}"
            );
            let expected: &[&str] = if passes { &["phone← 408"] } else { &[] };
            assert_eq!(asked(&mut tx), expected, "{method} {at}");
            assert!(!respond(&mut tx, id, &msg, 200, at), "it has its answer, or none");
            pass_time(&mut tx, 120_000);
            assert_quiet(&mut tx);
        }
    }
}

#[test]
fn no_answer_after_the_phone_gave_up() {
    let mut tx = tables();
    let msg = request("REGISTER", "z9hG4bKx", 1);
    let id = receive_new(&mut tx, &msg, 0);
    assert_eq!(pass_time(&mut tx, 32_000), [""; 0]);
    assert!(!respond(&mut tx, id, &msg, 200, 32_001));
    assert_eq!(receive(&mut tx, &msg, 34_000), Inbound::Retransmission, "its last one may be late");
    assert_eq!(pass_time(&mut tx, 60_000), ["37000 server ended"]);
    assert_quiet(&mut tx);
}

#[test]
fn every_fork_of_an_invite_passes() {
    let mut tx = tables();
    let invite = request("INVITE", "z9hG4bK-ours", 1);
    let id = send(&mut tx, &invite, 0);
    for (at, status, tag) in
        [(10, 180, "a"), (20, 183, "b"), (30, 180, "a"), (40, 200, "b"), (50, 200, "a"), (60, 200, "b")]
    {
        let got = take_response(&mut tx, &response(&invite, status, tag), target(), ms(at));
        assert_eq!(got, Some(Answer { client: id, status }), "{status} of {tag}");
    }
    assert_quiet(&mut tx);
}

#[test]
fn timer_c_asks_the_caller_and_cancels_by_itself_what_was_dropped() {
    let mut tx = tables();
    let (kept, dropped) = (request("INVITE", "z9hG4bK-1", 1), request("INVITE", "z9hG4bK-2", 2));
    send(&mut tx, &kept, 0);
    let unwanted = send(&mut tx, &dropped, 0);
    answer(&mut tx, &kept, 180, 0);
    answer(&mut tx, &dropped, 180, 1);
    tx.drop_client(unwanted);
    asked(&mut tx);
    assert_eq!(pass_time(&mut tx, 181_001), ["181000 timer C", "181001 target← CANCEL"]);
    assert_quiet(&mut tx);
}

/// As an RFC 2543 handset sends it: no branch, or one without the cookie.
fn old_request(method: &str, via_params: &str, to_params: &str, cseq: u32) -> Message {
    scan(&format!(
        "{method} sip:bob@example.com SIP/2.0\r\n\
         v: SIP/2.0/UDP 192.0.2.10{via_params}\r\n\
         f: <sip:alice@example.com>;tag=a1\r\n\
         t: <sip:bob@example.com>{to_params}\r\n\
         i: call-1@192.0.2.10\r\n\
         CSeq: {cseq} {method}\r\n\
         l: 0\r\n\r\n"
    ))
}

#[test]
fn requests_without_the_magic_cookie_match_by_the_rules_of_rfc_2543() {
    for via in ["", ";branch=1", ";branch=z9hG4bK"] {
        let mut tx = tables();
        let invite = old_request("INVITE", via, "", 1);
        let id = receive_new(&mut tx, &invite, 0);
        assert_eq!(receive(&mut tx, &invite, 500), Inbound::Retransmission, "{via}");
        let cancel = receive(&mut tx, &old_request("CANCEL", via, "", 1), 600);
        assert!(matches!(cancel, Inbound::Cancel { invite: Some(found), .. } if found == id), "{via}");
        let busy = scan("SIP/2.0 487 Request Terminated\r\nv: SIP/2.0/UDP 192.0.2.10\r\nl: 0\r\n\r\n");
        assert!(tx.respond(id, 487, busy.bytes().clone(), ms(700)));
        let ack = old_request("ACK", via, ";tag=b1", 1);
        assert_eq!(receive(&mut tx, &ack, 800), Inbound::AckAbsorbed, "{via}: the To tag is the response's");
        assert_eq!(receive(&mut tx, &old_request("ACK", via, ";tag=b1", 2), 900), Inbound::Ack, "{via}: another CSeq");
        receive_new(&mut tx, &old_request("INVITE", via, "", 2), 1000);
        receive_new(&mut tx, &old_request("INVITE", ";branch=2", "", 1), 1000);
        receive_new(&mut tx, &old_request("BYE", via, ";tag=b1", 3), 1000);
    }
}

#[test]
fn each_part_of_an_old_identity_counts() {
    let mut tx = tables();
    let first = old_request("REGISTER", ";branch=1", "", 1);
    receive_new(&mut tx, &first, 0);
    let text = String::from_utf8_lossy(first.bytes()).into_owned();
    for (from, to) in [
        ("REGISTER sip:bob@", "REGISTER sip:carol@"),
        ("192.0.2.10;branch", "192.0.2.11;branch"),
        ("branch=1", "branch=2"),
        ("tag=a1", "tag=a2"),
        ("call-1@", "call-2@"),
        ("CSeq: 1", "CSeq: 2"),
    ] {
        receive_new(&mut tx, &scan(&text.replace(from, to)), 1);
    }
    assert_eq!(receive(&mut tx, &first, 2), Inbound::Retransmission);
}

#[test]
fn an_old_phones_ack_of_a_2xx_looks_like_its_invites_and_still_goes_on() {
    let mut tx = tables();
    let invite = old_request("INVITE", "", "", 1);
    let id = receive_new(&mut tx, &invite, 0);
    let ok = scan("SIP/2.0 200 OK\r\nv: SIP/2.0/UDP 192.0.2.10\r\nl: 0\r\n\r\n");
    assert!(tx.respond(id, 200, ok.bytes().clone(), ms(10)));
    assert_eq!(receive(&mut tx, &old_request("ACK", "", ";tag=b1", 1), 20), Inbound::Ack);
}

#[test]
fn one_branch_for_every_register_gets_no_old_401() {
    let mut tx = tables();
    let first = request("REGISTER", "z9hG4bK-always", 1);
    let id = receive_new(&mut tx, &first, 0);
    respond(&mut tx, id, &first, 401, 10);
    asked(&mut tx);
    let authorized = request("REGISTER", "z9hG4bK-always", 2);
    let id = receive_new(&mut tx, &authorized, 20);
    assert_eq!(asked(&mut tx), [""; 0]);
    respond(&mut tx, id, &authorized, 200, 30);
    assert_eq!(receive(&mut tx, &first, 500), Inbound::Retransmission);
    assert_eq!(receive(&mut tx, &authorized, 520), Inbound::Retransmission);
    assert_eq!(asked(&mut tx), ["phone← 200", "phone← 401 again", "phone← 200 again"]);
    // Another method, another handset with the same habit, another call of the same handset.
    let text = String::from_utf8_lossy(first.bytes()).into_owned();
    receive_new(&mut tx, &request("OPTIONS", "z9hG4bK-always", 1), 600);
    receive_new(&mut tx, &scan(&text.replace("UDP 192.0.2.10", "UDP 192.0.2.11")), 600);
    receive_new(&mut tx, &scan(&text.replace("call-1@", "call-2@")), 600);
    assert_quiet(&mut tx);
}

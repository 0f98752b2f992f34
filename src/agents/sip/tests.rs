use super::*;

fn read(text: &str) -> Message {
    Message::read(&Bytes::copy_from_slice(text.replace('\n', "\r\n").as_bytes())).expect("a message")
}

const REGISTER: &str = "REGISTER sip:pbx.example SIP/2.0\n\
    Via: SIP/2.0/UDP 127.0.0.1:5062;branch=z9hG4bK1;rport, SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK0\n\
    From: \"A, <b>\" <sip:alice@PBX.example:5060>;tag=1\nTo: <sip:alice@PBX.example>\nCall-ID: c1\n\
    CSeq: 7 REGISTER\nContact: <sip:alice@127.0.0.1:5062;transport=tcp>;expires=60, <sip:b@c>\n\
    Supported: path, gruu\nContent-Length: 2\n\nhi";

#[test]
fn reads_what_a_registrar_needs() {
    let message = read(REGISTER);
    assert_eq!(message.refused, None);
    assert_eq!(
        (message.method(), message.uri(), message.cseq()),
        ("REGISTER", "sip:pbx.example", Some((7, "REGISTER")))
    );
    assert_eq!((message.branch(), message.via().unwrap().port()), ("z9hG4bK1", Some(5062)));
    assert_eq!(message.via().unwrap().param("rport"), Some(""));
    assert_eq!(message.to_aor(), "alice@pbx.example");
    assert_eq!(NameAddr::read(message.header("From").unwrap()).uri, "sip:alice@PBX.example:5060");
    let contacts = message.contacts();
    assert_eq!((contacts.len(), contacts[0].param("expires")), (2, Some("60")));
    assert!(message.has_token("supported", "PATH"));
    assert_eq!(&message.body[..], b"hi");
}

#[test]
fn what_rsip_refuses_is_read_all_the_same() {
    let message = read("FROBNICATE sip:a@b SIP/2.0\nv: SIP/2.0/UDP h;branch=z9\nt: <sip:a\n @b>\ni: x\n\n");
    assert!(message.refused.is_some());
    assert_eq!((message.method(), message.branch(), message.call_id()), ("FROBNICATE", "z9", "x"));
    assert_eq!(message.header("To"), Some("<sip:a @b>"));
}

#[test]
fn an_answer_carries_the_dialog_identifiers_back() {
    let request = read(REGISTER);
    let answer = response(&request, "SIP/2.0/UDP x;branch=z9hG4bK1", "t2", 404, &[("Server", "a".into())], b"");
    let answer = Message::read(&answer).unwrap();
    assert_eq!((answer.status(), answer.method(), answer.refused.clone()), (404, "REGISTER", None));
    assert_eq!(answer.start, Start::Response { status: 404, reason: "Not Found".into() });
    assert_eq!(answer.list("Via").len(), 2);
    assert_eq!(answer.header("To"), Some("<sip:alice@PBX.example>;tag=t2"));
}

#[test]
fn a_request_keeps_its_uri_to_the_letter() {
    for uri in ["sip:alice@127.0.0.1:5060;transport=tcp", "sip:a.b@127.0.0.1", "sip:pbx.example"] {
        let built = Message::read(&request("OPTIONS", uri, &[("Call-ID", "1".into())], b"x")).unwrap();
        assert_eq!(built.uri(), uri);
        assert_eq!(built.header("Content-Length"), Some("1"));
    }
}

#[test]
fn next_hops_follow_scheme_and_transport() {
    let hop = |uri| next_hop(uri).map(|(t, a)| (t, a.to_string()));
    assert_eq!(hop("sip:a@127.0.0.1"), Some((Transport::Udp, "127.0.0.1:5060".into())));
    assert_eq!(hop("sip:127.0.0.1:7;lr;transport=TCP"), Some((Transport::Tcp, "127.0.0.1:7".into())));
    assert_eq!(hop("sips:a@[::1]"), Some((Transport::Tls, "[::1]:5061".into())));
    assert_eq!(hop("sip:a@pbx.example"), None);
}

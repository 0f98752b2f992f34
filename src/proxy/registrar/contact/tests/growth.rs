//! For any Contacts: they come back, a request grows by little, nothing panics.

use proptest::prelude::*;

use super::*;

/// By how much the whole request grows: Contact or Path, our Via, `received` and `rport`, Max-Forwards.
fn growth(phone: &Message, mode: Mode) -> Option<usize> {
    growth_between(phone, mode, "203.200.200.201:65535", "203.200.200.200:65535")
}

fn growth_between(phone: &Message, mode: Mode, source: &str, sent_by: &str) -> Option<usize> {
    let advertised = Advertised { sent_by, transport: Transport::Tls };
    let mut edit = Edit::new(phone);
    let arrival = from(source, Transport::Udp);
    rewrite_register(phone, &mut edit, &key(), mode, &arrival, &advertised, unknown).ok()?;
    edit.stamp_via(arrival.source, true);
    edit.set_max_forwards(70);
    let branch = key().branch(u64::MAX, key().loop_hash(crate::flow::Side::Phone, b"x"));
    edit.push_via(format!("SIP/2.0/TLS {};branch={branch};rport", advertised.sent_by).as_bytes());
    Some(edit.finish().len().saturating_sub(phone.bytes().len()))
}

fn with_rport(contact: &str) -> Message {
    message(format!(
        "REGISTER sip:h SIP/2.0\r\nv: SIP/2.0/UDP a;rport;branch=z9hG4bK1\r\nf: <sip:a@h>;tag=1\r\nt: <sip:a@h>\r\ni: 1\r\nCSeq: 1 REGISTER\r\n{contact}\r\n"
    ))
}

#[test]
fn a_register_grows_by_at_most_250_bytes() {
    for contacts in ["m: sip:a\r\n", "m: sip:a@b\r\nk: path\r\n", "m: <sip:1001@192.168.1.10:5060>\r\n", "m: *\r\n", ""]
    {
        for mode in [Mode::Rewrite, Mode::Path] {
            let grown = growth(&with_rport(contacts), mode).expect("good");
            assert!(grown <= 250, "{contacts:?} {mode:?}: {grown}");
        }
    }
    // Three of a usual length are let through, and the longest IPv6 addresses fit.
    let usual = "m: <sip:1001@192.168.1.10:5060>,<sip:1001@192.168.1.10:5062>,<sip:1001@192.168.1.10:5064>\r\n";
    assert_eq!(go_up(&register(usual)).0.bound.len(), 3);
    let long = "[2001:0db8:1111:2222:3333:4444:5555:6666]:65535";
    let grown = growth_between(&with_rport(&format!("m: <sip:1001@{long}>\r\n")), Mode::Rewrite, long, long);
    assert!(grown.is_some_and(|grown| grown <= 250), "{grown:?}");
}

/// One Contact as phones write them: before the URI, the URI, behind it.
fn contact() -> impl Strategy<Value = (String, String, String)> {
    let display = prop_oneof![
        Just(String::new()),
        Just("Reception ".to_owned()),
        "[a-zA-Z ,;<>@]{0,12}".prop_map(|name| format!("\"{name}\" ")),
        Just("\"a \\\"quoted\\\", comma\"".to_owned()),
    ];
    let user = prop_oneof![Just(String::new()), "[a-zA-Z0-9._+%-]{1,12}@", "[a-z0-9]{1,6};x=[a-z]{1,3}@"];
    let host = prop_oneof!["10\\.[0-9]{1,2}\\.0\\.[1-9]", Just("[2001:db8::1]".to_owned()), "[a-z]{1,8}\\.example"];
    let tail = prop_oneof![
        Just(String::new()),
        ":[1-9][0-9]{0,3}",
        Just(":49200;transport=tcp".to_owned()),
        Just(";transport=udp;line=x1?Subject=a%20b".to_owned()),
    ];
    let scheme = prop_oneof![4 => Just("sip:"), 1 => Just("sips:"), 1 => Just("SIP:")];
    let uri = (scheme, user, host, tail).prop_map(|(scheme, user, host, tail)| format!("{scheme}{user}{host}{tail}"));
    let param = prop_oneof![
        Just(";q=0.7".to_owned()),
        (0..5000u32).prop_map(|n| format!(";expires={n}")),
        Just(" ; +sip.instance=\"<urn:uuid:1,2;3>\"".to_owned()),
        Just(";description=\"a, <b>\"".to_owned()),
        Just(";flag".to_owned()),
    ];
    let params = proptest::collection::vec(param, 0..4).prop_map(|params| params.concat());
    (display, uri, params).prop_map(|(display, uri, params)| (format!("{display}<"), uri, format!(">{params}")))
}

proptest! {
    #[test]
    fn up_and_back_gives_the_phone_its_own_contacts(
        contacts in proptest::collection::vec((contact(), prop_oneof![Just(", "), Just(",\r\n  "), Just("\r\nm: ")]), 1..4),
        tcp: bool,
    ) {
        let mut text = "Contact: ".to_owned();
        for (index, ((before, uri, after), separator)) in contacts.iter().enumerate() {
            text += if index == 0 { "" } else { separator };
            text += &[&**before, uri, after].concat();
        }
        let phone = register(&format!("{text}\r\n"));
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        match up_as(&phone, Mode::Rewrite, &from("10.1.0.1:49200", transport)) {
            Ok((upward, sent)) => {
                let own = |bound: &Bound| contacts.iter().any(|((_, uri, _), _)| *uri.as_bytes() == *bound.contact);
                prop_assert!(upward.bound.iter().all(own), "{:?}", upward.bound);
                let own = sent.contacts().all(|contact| match contact {
                    Contact::Addr(addr) => addr.uri.of(sent.bytes()).windows(10).any(|w| w == b"@192.0.2.1"),
                    Contact::Star => false,
                });
                prop_assert!(own, "a phone's address left the house");
                // Two Contacts that share an ID are one binding (of an instance): one stands for both.
                let mut ids: Vec<BindingId> = upward.bound.iter().map(|bound| bound.id).collect();
                ids.sort();
                ids.dedup();
                prop_assert_eq!(ids.len(), upward.bound.len());
                if ids.len() == contacts.len() {
                    let (_, seen) = come_back(&echoed(&sent, ""), Some(&upward), None);
                    prop_assert_eq!(lines(&seen, Name::Contact), lines(&phone, Name::Contact));
                }
            }
            Err(refusal) => {
                prop_assert_eq!(refusal, ContactRefusal::TooManyContacts);
                prop_assert!(contacts.len() > 1);
            }
        }
    }

    #[test]
    fn what_is_let_through_grows_by_at_most_250_bytes(contacts in proptest::collection::vec(contact(), 0..9), path: bool) {
        let contacts: Vec<String> = contacts.iter().map(|(before, uri, after)| format!("m: {before}{uri}{after}\r\n")).collect();
        let phone = with_rport(&format!("{}{}", contacts.concat(), if path { "k: path\r\n" } else { "" }));
        for mode in [Mode::Rewrite, Mode::Path] {
            prop_assert!(growth(&phone, mode).is_none_or(|grown| grown <= 250));
        }
    }

    #[test]
    fn nothing_a_stranger_sends_panics_or_breaks_a_line(
        contact in proptest::collection::vec(any::<u8>(), 0..80),
        known in prop_oneof![Just(""), Just("<sip:a@h"), Just("<sip:a@h>;expires="), Just("\"x\" <sips:")],
        cap: Option<u32>,
    ) {
        let line: Vec<u8> = contact.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let request = [&b"REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nTo: <sip:a@h>\r\nContact: "[..], known.as_bytes(), &line, b"\r\nX: y\r\n\r\n"].concat();
        let request = message(request);
        for mode in [Mode::Rewrite, Mode::Path] {
            if let Ok((upward, sent)) = up_as(&request, mode, &from("192.0.2.7:5060", Transport::Tcp)) {
                prop_assert_eq!(sent.headers().len(), request.headers().len());
                let response = [&b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\nCSeq: 1 REGISTER\r\nContact: "[..], known.as_bytes(), &line, b"\r\nX: y\r\n\r\n"].concat();
                let response = message(response);
                let (_, seen) = come_back(&response, Some(&upward), cap);
                prop_assert_eq!(seen.headers().len(), response.headers().len());
                come_back(&echoed(&sent, ""), Some(&upward), cap);
            }
        }
    }
}

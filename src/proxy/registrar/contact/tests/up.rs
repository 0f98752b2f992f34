//! Contacts of real phones on their way up.

use super::*;

#[test]
fn a_contact_becomes_ours_and_comes_back() {
    let phone = register("Contact: <sip:1001@192.168.1.10:5060>\r\nExpires: 3600\r\n");
    let (upward, sent) = go_up(&phone);
    let id = only_id(&upward);
    assert_eq!(lines(&sent, Name::Contact), [format!("<sip:{id}@192.0.2.1:5080;transport=tls>")]);
    assert_eq!(&*upward.bound[0].contact, b"sip:1001@192.168.1.10:5060");
    assert_eq!((upward.bound[0].expires, upward.wildcard, upward.path), (Some(3600), false, false));

    let answer = ok(&format!("Contact: <sip:{id}@203.0.113.9:40001;x-ast-orig=a>;expires=3600\r\n"));
    let (restored, seen) = come_back(&answer, Some(&upward), Some(300));
    assert_eq!(lines(&seen, Name::Contact), ["<sip:1001@192.168.1.10:5060>;expires=300"]);
    assert_eq!(restored.granted.as_slice(), [(id, 3600)]);
}

#[test]
fn a_yealinks_contact_becomes_ours_and_its_expires_header_stays() {
    let (upward, sent) = go_up(&register(
        "Contact: <sip:1001@192.168.1.10:5060>\r\nUser-Agent: Yealink SIP-T46S 66.86.0.15\r\nExpires: 3600\r\n\
         Allow-Events: talk,hold,conference,refer,check-sync\r\nContent-Length: 0\r\n",
    ));
    let id = only_id(&upward);
    assert_eq!(lines(&sent, Name::Contact), [format!("<sip:{id}@192.0.2.1:5080;transport=tls>")]);
    assert_eq!(lines(&sent, Name::Expires), ["3600"]);
}

#[test]
fn a_polycoms_methods_in_the_contact_stay() {
    let (upward, sent) = go_up(&register(
        "CONTACT: <sip:1001@192.168.1.10:5060>;methods=\"INVITE, ACK, BYE, CANCEL, OPTIONS, INFO\"\r\n\
         User-Agent: PolycomVVX-VVX_410-UA/5.9.5.0614\r\nExpires: 3600\r\n",
    ));
    let id = only_id(&upward);
    assert_eq!(
        lines(&sent, Name::Contact),
        [format!("<sip:{id}@192.0.2.1:5080;transport=tls>;methods=\"INVITE, ACK, BYE, CANCEL, OPTIONS, INFO\"")]
    );
}

#[test]
fn a_grandstreams_reg_id_comes_off_and_its_instance_stays() {
    let (upward, sent) = go_up(&register(
        "Contact: <sip:1001@192.168.1.10:5060>;reg-id=1;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000B82AABBCC>\"\r\n\
         Supported: path\r\nUser-Agent: Grandstream GXP2170 1.0.11.64\r\n",
    ));
    let id = only_id(&upward);
    let instance = "\"<urn:uuid:00000000-0000-1000-8000-000B82AABBCC>\"";
    assert_eq!(
        lines(&sent, Name::Contact),
        [format!("<sip:{id}@192.0.2.1:5080;transport=tls>;+sip.instance={instance}")]
    );
    assert_eq!(upward.bound[0].instance.as_deref(), Some(instance.as_bytes()));
    assert_eq!(upward.bound[0].expires, None);
}

#[test]
fn a_snoms_line_and_quoted_commas_are_read() {
    let (upward, sent) = go_up(&register(
        "Contact: \"Room 4, \\\"left\\\"\" <sip:1001@192.168.1.10:2051;line=r9k1dgpb>;flow-timer;q=1.0;audio;\
         description=\"snom360, 8.7\";expires=600\r\n",
    ));
    let id = only_id(&upward);
    assert_eq!(
        lines(&sent, Name::Contact),
        [format!(
            "\"Room 4, \\\"left\\\"\" <sip:{id}@192.0.2.1:5080;transport=tls>;flow-timer;q=1.0;audio;\
             description=\"snom360, 8.7\";expires=600"
        )]
    );
    assert_eq!(
        (&*upward.bound[0].contact, upward.bound[0].expires),
        (&b"sip:1001@192.168.1.10:2051;line=r9k1dgpb"[..], Some(600))
    );
}

#[test]
fn linphone_asks_for_outbound_and_is_given_none() {
    let (upward, sent) = go_up(&register(
        "Supported: replaces, outbound, gruu, path\r\nRequire: outbound\r\n\
         Contact: <sip:1001@192.168.1.10:5060;transport=udp>;+sip.instance=\"<urn:uuid:1>\" ; reg-id=1 ;q=1\r\n",
    ));
    let id = only_id(&upward);
    assert_eq!(lines(&sent, Name::Supported), ["replaces, gruu, path"]);
    assert_eq!(lines(&sent, Name::Require), [""; 0]);
    assert_eq!(
        lines(&sent, Name::Contact),
        [format!("<sip:{id}@192.0.2.1:5080;transport=tls>;+sip.instance=\"<urn:uuid:1>\" ;q=1")]
    );
    assert!(!upward.path && sent.first(Name::Path).is_none());
}

#[test]
fn reg_id_comes_off_contacts_that_stay_as_they_are_too() {
    let (_, sent) = go_up(&register("Contact: <tel:+4930123>;reg-id=1;q=1 , <sip:1001@192.168.1.10>;Reg-ID=2\r\n"));
    let value = lines(&sent, Name::Contact).remove(0);
    assert!(value.starts_with("<tel:+4930123>;q=1 , <sip:h") && value.ends_with(";transport=tls>"), "{value}");
}

#[test]
fn a_baresips_parameters_stay() {
    let (upward, sent) = go_up(&register(
        "Contact: <sip:1001-0x55d0c8a3b2c0@192.168.1.10:35060>;expires=3600;+sip.instance=\"<urn:uuid:6f3b>\"\r\n",
    ));
    let id = only_id(&upward);
    assert_eq!(
        lines(&sent, Name::Contact),
        [format!("<sip:{id}@192.0.2.1:5080;transport=tls>;expires=3600;+sip.instance=\"<urn:uuid:6f3b>\"")]
    );
}

#[test]
fn cisco_keep_alive_is_no_goodbye() {
    let phone = register(
        "Contact: <sip:1001@192.168.1.10:5060;transport=udp>;+sip.instance=\"<urn:uuid:0>\";expires=0;cisco-keep-alive\r\nExpires: 0\r\n",
    );
    let (upward, sent) = go_up(&phone);
    assert!(upward.bound.is_empty());
    let id = upward.asking[0].id;
    assert_eq!(
        lines(&sent, Name::Contact),
        [format!("<sip:{id}@192.0.2.1:5080;transport=tls>;+sip.instance=\"<urn:uuid:0>\";expires=0;cisco-keep-alive")]
    );
    let (restored, seen) =
        come_back(&ok(&format!("Contact: <sip:{id}@192.0.2.1:5080>;expires=99\r\n")), Some(&upward), None);
    assert_eq!(lines(&seen, Name::Contact), ["<sip:1001@192.168.1.10:5060;transport=udp>;expires=99"]);
    assert_eq!(restored.granted.as_slice(), [(id, 99)]);
    assert!(come_back(&ok(""), Some(&upward), None).0.granted.is_empty(), "neither granted nor taken off");
}

#[test]
fn star_stays_and_several_contacts_keep_their_order() {
    let (upward, sent) = go_up(&register("Contact: *\r\nExpires: 0\r\n"));
    assert!(upward.wildcard && upward.bound.is_empty());
    assert_eq!(lines(&sent, Name::Contact), ["*"]);
    assert!(come_back(&ok(""), Some(&upward), Some(300)).0.granted.is_empty());

    let (upward, sent) = go_up(&register(
        "Contact: <sip:1001@192.168.1.10>;q=1, <mailto:1001@example.com>;q=0.1\r\nContact: <tel:+4930123>\r\nContact: <sips:1001@192.168.1.10>\r\n",
    ));
    let (a, b) = (upward.bound[0].id, upward.bound[1].id);
    assert_eq!(
        lines(&sent, Name::Contact),
        [
            format!("<sip:{a}@192.0.2.1:5080;transport=tls>;q=1, <mailto:1001@example.com>;q=0.1"),
            "<tel:+4930123>".to_owned(),
            format!("<sips:{b}@192.0.2.1:5080>"),
        ]
    );
}

#[test]
fn a_register_without_contact_asks_and_binds_nothing() {
    let phone = register("");
    for mode in [Mode::Rewrite, Mode::Path] {
        let (upward, sent) = up_as(&phone, mode, &from("192.168.1.10:5060", Transport::Udp)).expect("good");
        assert_eq!(upward, Upward::default());
        assert_eq!(sent.bytes(), phone.bytes());
    }
}

#[test]
fn expires_counts_by_parameter_then_by_header_and_unreadable_as_neither() {
    for (headers, asked) in [
        ("Contact: <sip:1001@h>;expires=60\r\nExpires: 3600\r\n", Some(60)),
        ("Contact: <sip:1001@h>\r\nExpires: 3600\r\n", Some(3600)),
        ("Contact: <sip:1001@h>\r\n", None),
        ("Contact: <sip:1001@h>;EXPIRES = 0\r\n", Some(0)),
        ("Contact: <sip:1001@h>;expires=soon\r\n", Some(3600)),
        ("Contact: <sip:1001@h>;expires\r\n", Some(3600)),
        ("Contact: <sip:1001@h>;expires=99999999999999\r\n", Some(u32::MAX)),
    ] {
        assert_eq!(go_up(&register(headers)).0.bound[0].expires, asked, "{headers}");
    }
}

#[test]
fn path_is_added_only_if_the_phone_supports_it() {
    let with = register(
        "Contact: <sip:1001@192.168.1.10>;expires=60;reg-id=1\r\nk: path, outbound\r\nPath: <sip:inner;lr>\r\n",
    );
    let without = register("Contact: <sip:1001@192.168.1.10>;expires=60\r\nSupported: replaces\r\n");
    let arrival = from("192.168.1.10:5060", Transport::Udp);

    let (upward, sent) = up_as(&with, Mode::Path, &arrival).expect("good");
    let id = only_id(&upward);
    assert!(upward.path);
    assert_eq!(lines(&sent, Name::Contact), ["<sip:1001@192.168.1.10>;expires=60"]);
    assert_eq!(
        lines(&sent, Name::Path),
        [format!("<sip:{id}@192.0.2.1:5080;transport=tls;lr;ob>"), "<sip:inner;lr>".to_owned()]
    );
    assert_eq!(lines(&sent, Name::Supported), ["path"]);

    let (rewritten, sent) = up_as(&without, Mode::Path, &arrival).expect("good");
    assert!(!rewritten.path && sent.first(Name::Path).is_none());
    assert_eq!(lines(&sent, Name::Contact), [format!("<sip:{id}@192.0.2.1:5080;transport=tls>;expires=60")]);
}

#[test]
fn with_path_one_binding_stands_for_all_contacts() {
    let phone = register(
        "Contact: <sip:1001@192.168.1.10>;expires=0, <sip:1001@192.168.1.10:5062>;expires=90\r\nSupported: path\r\n",
    );
    let (upward, sent) = up_as(&phone, Mode::Path, &from("192.168.1.10:5060", Transport::Udp)).expect("good");
    assert_eq!(upward.bound.len(), 1);
    assert_eq!(upward.bound[0].expires, Some(90));
    assert_eq!(sent.all(Name::Path).count(), 1);
    let star = register("Contact: *\r\nExpires: 0\r\nSupported: path\r\n");
    let (upward, sent) = up_as(&star, Mode::Path, &from("192.168.1.10:5060", Transport::Udp)).expect("good");
    assert!(upward.wildcard && !upward.path && sent.first(Name::Path).is_none());
}

#[test]
fn what_cannot_be_forwarded_is_refused_and_says_why() {
    let many: Vec<String> = (0..=MAX_CONTACTS)
        .map(|n| format!("Contact: <sip:1001@a-phone-with-a-long-name-{n}.example.com:5060;x=y>\r\n"))
        .collect();
    let long = format!("Contact: <sip:{}@h>\r\n", "1".repeat(3000));
    let short: Vec<String> = (0..5).map(|n| format!("Contact: <sip:{n}@h>\r\n")).collect();
    for (headers, refusal) in [
        ("Contact: \"open <sip:1001@h>\r\n", ContactRefusal::BadContact),
        ("Contact: <sip:1001@>\r\n", ContactRefusal::BadContact),
        ("Contact: <1001>\r\n", ContactRefusal::BadContact),
        ("Contact: <sip:1001@h;a=\r\n b>\r\n", ContactRefusal::BadContact),
        ("Contact: <sip:a b@h>\r\n", ContactRefusal::BadContact),
        ("Contact: <sip:a<b@h>\r\n", ContactRefusal::BadContact),
        // regbadct of RFC 4475: whose is the '?'
        ("Contact: sip:1001@h?Route=%3Csip:sip.example.com%3E\r\n", ContactRefusal::BadContact),
        (&many.concat(), ContactRefusal::TooManyContacts),
        (&short.concat(), ContactRefusal::TooManyContacts),
        (&long, ContactRefusal::LongContact),
    ] {
        let got = up_as(&register(headers), Mode::Rewrite, &from("192.168.1.10:5060", Transport::Udp));
        assert_eq!(got.map(|(upward, _)| upward), Err(refusal), "{headers}");
        assert_eq!(refusal.status(), 400);
    }
}

#[test]
fn a_sips_contact_is_a_sip_one_over_an_upstream_without_tls() {
    let phone = register("Contact: <sips:1001@192.168.1.10>\r\nSupported: path\r\n");
    for (transport, contact, path, plain) in [
        (Transport::Tls, "<sips:ID@192.0.2.1:5080>", "<sips:ID@192.0.2.1:5080;lr;ob>", false),
        (Transport::Tcp, "<sip:ID@192.0.2.1:5080;transport=tcp>", "<sip:ID@192.0.2.1:5080;transport=tcp;lr;ob>", true),
        (Transport::Udp, "<sip:ID@192.0.2.1:5080;transport=udp>", "<sip:ID@192.0.2.1:5080;transport=udp;lr;ob>", true),
    ] {
        let advertised = Advertised { transport, ..ADVERTISED };
        for (mode, name, expected) in [(Mode::Rewrite, Name::Contact, contact), (Mode::Path, Name::Path, path)] {
            let mut edit = Edit::new(&phone);
            let arrival = from("192.168.1.10:5061", Transport::Tls);
            let upward = rewrite_register(&phone, &mut edit, &key(), mode, &arrival, &advertised, unknown);
            let upward = upward.expect("a good REGISTER");
            let sent = message(edit.finish());
            assert_eq!(lines(&sent, name), [expected.replace("ID", &only_id(&upward).to_string())]);
            assert_eq!(upward.plain, plain, "{transport}");
            let (_, seen) = come_back(&echoed(&sent, ""), Some(&upward), None);
            assert_eq!(lines(&seen, Name::Contact), ["<sips:1001@192.168.1.10>"]);
        }
    }
}

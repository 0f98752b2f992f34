//! A phone that reconnected renews its Contact: the new one is registered, the old one taken off, in either order and in one
//! REGISTER or in two.

use super::*;

const INSTANCE: &str = "+sip.instance=\"<urn:uuid:1>\"";

/// Over TCP, on a connection from port 50007; `moved`: the binding has another Contact since.
fn up_when(msg: &Message, mode: Mode, moved: bool) -> (Upward, Message) {
    let arrival = from("192.168.1.10:50007", Transport::Tcp);
    let mut edit = Edit::new(msg);
    let known =
        |parts: &IdParts<'_>, _: &[u8]| (key().binding_id(parts), Known { replaced: moved, ..Known::default() });
    let upward = rewrite_register(msg, &mut edit, &key(), mode, &arrival, &ADVERTISED, known).expect("a good REGISTER");
    (upward, message(edit.finish()))
}

#[test]
fn of_several_contacts_with_one_id_the_one_that_binds_goes_up_alone() {
    let new = "<sip:1001@192.168.1.10:50007;transport=tcp;ob>;expires=300;reg-id=1";
    let old = "<sip:1001@192.168.1.10:50001;transport=tcp;ob>;expires=0;reg-id=1";
    for contacts in [
        format!("Contact: {new};{INSTANCE}\r\nContact: {old};{INSTANCE}\r\n"),
        format!("Contact: {old};{INSTANCE}\r\nContact: {new};{INSTANCE}\r\n"),
        format!("Contact: {new};{INSTANCE}, {old};{INSTANCE}\r\n"),
        format!("Contact: {old};{INSTANCE},{new};{INSTANCE}\r\n"),
        // Without an instance the ports are the ones that are left out.
        format!("Contact: {new}\r\nContact: {old}\r\n"),
        format!("m: {old};cisco-keep-alive, {new}\r\n"),
    ] {
        for moved in [false, true] {
            let (upward, sent) = up_when(&register(&contacts), Mode::Rewrite, moved);
            let id = only_id(&upward);
            assert!(upward.asking.is_empty());
            assert_eq!(&*upward.bound[0].contact, b"sip:1001@192.168.1.10:50007;transport=tcp;ob", "{contacts}");
            let line = lines(&sent, Name::Contact);
            assert!(line.len() == 1 && sent.contacts().count() == 1, "{contacts}: {line:?}");
            assert!(
                line[0].starts_with(&format!("<sip:{id}@192.0.2.1:5080;transport=tls>;expires=300")),
                "{contacts}: {line:?}"
            );
            let (restored, seen) = come_back(&echoed(&sent, ""), Some(&upward), None);
            assert_eq!(restored.granted.as_slice(), [(id, 300)]);
            assert!(lines(&seen, Name::Contact)[0].starts_with("<sip:1001@192.168.1.10:50007;transport=tcp;ob>"));
        }
    }
}

#[test]
fn taking_off_a_contact_that_was_replaced_asks_what_is_registered() {
    for contacts in [
        "Contact: <sip:1001@192.168.1.10:50001;transport=tcp>;expires=0\r\nSubject: x\r\n",
        "Contact: <sip:1001@192.168.1.10:50001;transport=tcp>\r\nExpires: 0\r\nSubject: x\r\n",
        "m: <sip:1001@192.168.1.10:50001;transport=tcp>;expires=0, <sip:1001@192.168.1.10:50002;transport=tcp>;expires=0\r\n\
         Subject: x\r\n",
    ] {
        let (upward, sent) = up_when(&register(contacts), Mode::Rewrite, true);
        assert_eq!(upward, Upward::default(), "{contacts}");
        assert_eq!(sent.bytes(), register("Subject: x\r\n").bytes(), "{contacts}");
        // It is as it was where the Contact is the binding's own.
        let (upward, sent) = up_when(&register(contacts), Mode::Rewrite, false);
        assert_eq!((upward.bound.len(), upward.bound[0].expires), (1, Some(0)), "{contacts}");
        assert_eq!(sent.contacts().count(), 1, "{contacts}");
    }
    // What else is in the REGISTER goes up, with what it says of it.
    let both = "Contact: <sip:1001@192.168.1.10:50001;transport=tcp>, <tel:+4930123>\r\nExpires: 0\r\n";
    let (_, sent) = up_when(&register(both), Mode::Rewrite, true);
    assert_eq!(
        (lines(&sent, Name::Contact), lines(&sent, Name::Expires)),
        (vec!["<tel:+4930123>".into()], vec!["0".into()])
    );
}

#[test]
fn with_path_the_pbx_tells_the_contacts_apart_and_the_one_that_binds_is_reached() {
    let phone = register(
        "Contact: <sip:1001@192.168.1.10:50001;transport=tcp>;expires=0, <sip:1001@192.168.1.10:50007;transport=tcp>\r\n\
         Supported: path\r\n",
    );
    let (upward, sent) = up_when(&phone, Mode::Path, true);
    assert_eq!(&*upward.bound[0].contact, b"sip:1001@192.168.1.10:50007;transport=tcp");
    assert_eq!((upward.bound.len(), sent.contacts().count()), (1, 2));

    let old = register("Contact: <sip:1001@192.168.1.10:50001;transport=tcp>;expires=0\r\nSupported: path\r\n");
    let (upward, sent) = up_when(&old, Mode::Path, true);
    assert!(upward.bound.is_empty() && !upward.path, "the binding stays");
    assert_eq!(sent.bytes(), old.bytes(), "the PBX takes the phone's own old Contact off");
}

#[test]
fn who_asks_for_what_it_was_told_asks_for_what_it_wanted_and_not_below_the_least() {
    let terms = Terms { wanted: 3600, told: 250 };
    for (asked, least, goes_up) in
        [(250, 0, 3600), (250, 7200, 7200), (251, 0, 251), (300, 7200, 300), (3600, 0, 3600), (0, 300, 0)]
    {
        for headers in [
            format!("Contact: <sip:1001@192.168.1.10>;expires={asked};q=1\r\n"),
            format!("Contact: <sip:1001@192.168.1.10>\r\nExpires: {asked}\r\n"),
        ] {
            let msg = register(&headers);
            let mut edit = Edit::new(&msg);
            let arrival = from("192.168.1.10:5060", Transport::Udp);
            let known =
                |parts: &IdParts<'_>, _: &[u8]| (key().binding_id(parts), Known { terms, least, ..Known::default() });
            let upward = rewrite_register(&msg, &mut edit, &key(), Mode::Rewrite, &arrival, &ADVERTISED, known);
            assert_eq!(upward.expect("good").bound[0].expires, Some(goes_up), "{headers}");
            let sent = edit.finish();
            let said = String::from_utf8_lossy(&sent);
            let says = [format!("expires={goes_up};q=1\r\n"), format!("Expires: {goes_up}\r\n")];
            assert!(says.iter().any(|says| said.contains(says)), "{said}");
        }
    }
}

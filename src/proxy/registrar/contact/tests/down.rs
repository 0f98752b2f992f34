//! Contacts in a 2xx on their way back.

use super::*;

#[test]
fn bare_uris_get_brackets_so_that_parameters_stay_the_headers() {
    let (upward, sent) =
        go_up(&register("m: sip:1001@192.168.1.10:5060;expires=60;q=0.5 , sip:1001@192.168.1.10:5062\r\n"));
    let (a, b) = (upward.bound[0].id, upward.bound[1].id);
    assert_eq!(
        lines(&sent, Name::Contact),
        [format!("<sip:{a}@192.0.2.1:5080;transport=tls>;expires=60;q=0.5 , <sip:{b}@192.0.2.1:5080;transport=tls>")]
    );
    assert_eq!(upward.bound[0].expires, Some(60));
    // A PBX that answers with bare URIs.
    let answer = ok(&format!("Contact: sip:{a}@192.0.2.1;expires=60, sip:{b}@192.0.2.1\r\n"));
    let (_, seen) = come_back(&answer, Some(&upward), None);
    assert_eq!(lines(&seen, Name::Contact), ["<sip:1001@192.168.1.10:5060>;expires=60, <sip:1001@192.168.1.10:5062>"]);
}

#[test]
fn the_cap_is_for_our_own_contacts_in_a_2xx_and_never_below_a_minute() {
    let (upward, _) = go_up(&register("Contact: <sip:1001@192.168.1.10>\r\nExpires: 3600\r\n"));
    let id = only_id(&upward);
    let own = "<sip:1001@192.168.1.10>";
    for (headers, cap, contact, expires, granted) in [
        (
            format!("Contact: <sip:{id}@h>;expires=3600;q=1\r\n"),
            Some(300),
            format!("{own};expires=300;q=1"),
            None,
            3600,
        ),
        (format!("Contact: <sip:{id}@h>;expires=3600\r\n"), Some(5), format!("{own};expires=60"), None, 3600),
        (format!("Contact: <sip:{id}@h>;expires=3600\r\n"), None, format!("{own};expires=3600"), None, 3600),
        (format!("Contact: <sip:{id}@h>;expires=200\r\n"), Some(300), format!("{own};expires=200"), None, 200),
        (format!("Contact: <sip:{id}@h>;expires=30\r\n"), Some(300), format!("{own};expires=30"), None, 30),
        (format!("Contact: <sip:{id}@h>\r\nExpires: 3600\r\n"), Some(300), own.to_owned(), Some("300"), 3600),
        (format!("Contact: <sip:{id}@h>\r\nExpires: 120\r\n"), Some(300), own.to_owned(), Some("120"), 120),
        (
            format!("Contact: <sip:{id}@h>;expires=90\r\nExpires: 3600\r\n"),
            Some(300),
            format!("{own};expires=90"),
            Some("300"),
            90,
        ),
        (format!("Contact: <sip:{id}@h>\r\n"), Some(300), format!("{own};expires=300"), None, 3600),
        (format!("Contact: <sip:{id}@h>;expires\r\n"), Some(300), format!("{own};expires=300"), None, 3600),
        (format!("Contact: <sip:{id}@h>;expires=\r\n"), Some(300), format!("{own};expires=300"), None, 3600),
    ] {
        let (restored, seen) = come_back(&ok(&headers), Some(&upward), cap);
        assert_eq!(lines(&seen, Name::Contact), [contact], "{headers}");
        assert_eq!(
            lines(&seen, Name::Expires),
            expires.map(str::to_owned).into_iter().collect::<Vec<_>>(),
            "{headers}"
        );
        assert_eq!(restored.granted.as_slice(), [(id, granted)], "{headers}");
    }
    let foreign = ok("Contact: <sip:1001@198.51.100.1>;expires=3600\r\n");
    assert_eq!(
        lines(&come_back(&foreign, Some(&upward), Some(300)).1, Name::Contact),
        ["<sip:1001@198.51.100.1>;expires=3600"]
    );
}

#[test]
fn nothing_happens_to_another_answer() {
    let (upward, _) = go_up(&register("Contact: <sip:1001@192.168.1.10>\r\n"));
    let id = only_id(&upward);
    let text = format!(
        "SIP/2.0 423 Interval Too Brief\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:a@h>;tag=2\r\n\
         Call-ID: 1\r\nCSeq: 1 REGISTER\r\nContact: <sip:{id}@h>;expires=3600\r\nExpires: 3600\r\nMin-Expires: 600\r\n\r\n"
    );
    let answer = message(text);
    let (restored, seen) = come_back(&answer, Some(&upward), Some(300));
    assert_eq!(seen.bytes(), answer.bytes());
    assert!(restored.granted.is_empty());
}

#[test]
fn a_pbx_that_lists_nothing_granted_what_was_asked() {
    let asked = |headers: &str| go_up(&register(headers)).0;
    let upward = asked("Contact: <sip:1001@h>;expires=600\r\n");
    assert_eq!(come_back(&ok(""), Some(&upward), Some(300)).0.granted.as_slice(), [(only_id(&upward), 600)]);
    assert_eq!(
        come_back(&ok("Expires: 120\r\n"), Some(&upward), Some(300)).0.granted.as_slice(),
        [(only_id(&upward), 120)]
    );
    let gone = asked("Contact: <sip:1001@h>;expires=0\r\n");
    assert_eq!(come_back(&ok("Expires: 3600\r\n"), Some(&gone), None).0.granted.as_slice(), [(only_id(&gone), 0)]);
    let open = asked("Contact: <sip:1001@h>\r\n");
    assert_eq!(come_back(&ok(""), Some(&open), None).0.granted.as_slice(), [(only_id(&open), 3600)]);
}

#[test]
fn of_several_phones_each_gets_its_own_and_strangers_stay() {
    let (one, _) = go_up(&register("Contact: <sip:1001@192.168.1.10>\r\n"));
    let (two, _) = go_up(&register("Contact: <sip:1001@192.168.1.11>\r\n"));
    let (a, b) = (only_id(&one), only_id(&two));
    let forgotten = only_id(&go_up(&register("Contact: <sip:1001@192.168.1.12>\r\n")).0);
    let answer = ok(&format!(
        "Contact: <sip:1001@198.51.100.1>;expires=10, <sip:{b}@h>;expires=100,<sip:{a}@h>;expires=200\r\nContact: <sip:{forgotten}@h>;expires=50\r\n"
    ));
    let mut edit = Edit::new(&answer);
    let other = |id: &BindingId| (*id == b).then_some(&*two.bound[0].contact);
    let restored = restore_register(&answer, &mut edit, &key(), Some(&one), None, other);
    assert_eq!(
        lines(&message(edit.finish()), Name::Contact),
        [
            "<sip:1001@198.51.100.1>;expires=10, <sip:1001@192.168.1.11>;expires=100,<sip:1001@192.168.1.10>;expires=200".to_owned(),
            format!("<sip:{forgotten}@h>;expires=50"),
        ]
    );
    assert_eq!(restored.granted.as_slice(), [(b, 100), (a, 200), (forgotten, 50)]);
}

#[test]
fn with_path_the_phones_own_contact_is_capped_and_our_path_comes_off() {
    let phone = register("Contact: <sip:1001@192.168.1.10;line=2>\r\nSupported: path\r\nExpires: 3600\r\n");
    let (upward, _) = up_as(&phone, Mode::Path, &from("192.168.1.10:5060", Transport::Udp)).expect("good");
    let id = only_id(&upward);
    let answer = ok(&format!(
        "Path: <sip:{id}@192.0.2.1:5080;lr;ob>, <sip:edge.example.com;lr>\r\nContact: <sip:9@198.51.100.1>;expires=3600\r\n\
         Contact: <sip:1001@192.168.1.10>;expires=1800\r\n"
    ));
    let (restored, seen) = come_back(&answer, Some(&upward), Some(300));
    assert_eq!(lines(&seen, Name::Path), ["<sip:edge.example.com;lr>"]);
    assert_eq!(
        lines(&seen, Name::Contact),
        ["<sip:9@198.51.100.1>;expires=3600", "<sip:1001@192.168.1.10>;expires=300"]
    );
    assert_eq!(restored.granted.as_slice(), [(id, 1800)]);
}

use hickory_proto::op::Query;

use super::*;

const WITHIN: Duration = Duration::from_secs(5);

fn query(name: &str, record: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(dns_name(name), record));
    message.to_vec().unwrap()
}

async fn ask_udp(server: &Server, name: &str, record: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&query(name, record), server.addr()).await.unwrap();
    let mut buffer = vec![0; 4096];
    let (length, _) = tokio::time::timeout(WITHIN, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn ask_tcp(server: &Server, name: &str, record: RecordType) -> Message {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let query = query(name, record);
    stream.write_u16(u16::try_from(query.len()).unwrap()).await.unwrap();
    stream.write_all(&query).await.unwrap();
    let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut reply).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

async fn two_targets() -> Server {
    let server = Server::start().await.unwrap();
    server.set_srv(
        "_sip._udp.pbx.example",
        60,
        &[Srv::new(10, 0, 5060, "a.example"), Srv::new(20, 5, 5070, "b.example")],
    );
    server.set_loopback("a.example", 30);
    server
}

#[tokio::test]
async fn answers_from_its_data_and_writes_the_question_down() {
    let server = two_targets().await;
    let reply = ask_udp(&server, "_sip._udp.PBX.example", RecordType::SRV).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!(reply.answers.len(), 2);
    assert_eq!(reply.answers[0].ttl, 60);
    assert!(reply.additionals.is_empty());
    let questions = server.questions();
    assert_eq!(questions.len(), 1);
    assert_eq!((questions[0].name.as_str(), questions[0].record.as_str()), ("_sip._udp.PBX.example", "SRV"));
    assert_eq!(questions[0].over, Over::Udp);
    server.wait_for_question("_SIP._udp.pbx.example.", "srv", 1, WITHIN).await.unwrap();
    server.set_additional(true);
    assert_eq!(ask_udp(&server, "_sip._udp.pbx.example", RecordType::SRV).await.additionals.len(), 1);
}

#[tokio::test]
async fn unknown_name_and_missing_type_are_told_apart() {
    let server = two_targets().await;
    let unknown = ask_udp(&server, "c.example", RecordType::A).await;
    assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
    let no_data = ask_udp(&server, "a.example", RecordType::SRV).await;
    assert_eq!((no_data.metadata.response_code, no_data.answers.len()), (ResponseCode::NoError, 0));
    server.remove("a.example");
    let removed = ask_udp(&server, "a.example", RecordType::A).await;
    assert_eq!(removed.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_cname_is_followed_inside_the_answer() {
    let server = two_targets().await;
    server.set_cname("_sip._udp.alias.example", 9, "_sip._udp.pbx.example");
    let reply = ask_udp(&server, "_sip._udp.alias.example", RecordType::SRV).await;
    assert_eq!(
        reply.answers.iter().map(hickory_proto::rr::Record::record_type).collect::<Vec<_>>(),
        [RecordType::CNAME, RecordType::SRV, RecordType::SRV]
    );
}

#[tokio::test]
async fn truncated_over_udp_is_whole_over_tcp() {
    let server = two_targets().await;
    server.set_mode(Mode::Truncate);
    let udp = ask_udp(&server, "_sip._udp.pbx.example", RecordType::SRV).await;
    assert!(udp.metadata.truncation && udp.answers.is_empty());
    let tcp = ask_tcp(&server, "_sip._udp.pbx.example", RecordType::SRV).await;
    assert!(!tcp.metadata.truncation);
    assert_eq!(tcp.answers.len(), 2);
    assert_eq!(server.questions().iter().map(|q| q.over).collect::<Vec<_>>(), [Over::Udp, Over::Tcp]);
}

#[tokio::test]
async fn fails_as_told_for_one_name_or_for_all() {
    let server = two_targets().await;
    server.set_mode_for("a.example", Some(Mode::ServFail));
    let code = |reply: Message| reply.metadata.response_code;
    assert_eq!(code(ask_udp(&server, "a.example", RecordType::A).await), ResponseCode::ServFail);
    assert_eq!(code(ask_udp(&server, "_sip._udp.pbx.example", RecordType::SRV).await), ResponseCode::NoError);
    server.set_mode(Mode::NxDomain);
    assert_eq!(code(ask_udp(&server, "_sip._udp.pbx.example", RecordType::SRV).await), ResponseCode::NXDomain);
    server.set_mode_for("a.example", Some(Mode::NoData));
    let no_data = ask_udp(&server, "a.example", RecordType::A).await;
    assert_eq!((no_data.metadata.response_code, no_data.answers.len()), (ResponseCode::NoError, 0));
    server.set_mode_for("a.example", None);
    assert_eq!(code(ask_udp(&server, "a.example", RecordType::A).await), ResponseCode::NXDomain);
}

#[tokio::test]
async fn silence_leaves_a_question_and_no_answer() {
    let server = two_targets().await;
    server.set_mode(Mode::Silent);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&query("a.example", RecordType::A), server.addr()).await.unwrap();
    server.wait_for_question("a.example", "A", 1, WITHIN).await.unwrap();
    // The answer to a later question is the first thing that arrives.
    server.set_mode(Mode::Delay(Duration::from_millis(20)));
    socket.send_to(&query("_sip._udp.pbx.example", RecordType::SRV), server.addr()).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = tokio::time::timeout(WITHIN, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().answers.len(), 2);
}

#[tokio::test]
async fn alternating_subsets_take_turns() {
    let server = two_targets().await;
    let (a, b) = ([Srv::new(1, 0, 5060, "a.example")], [Srv::new(1, 0, 5060, "b.example")]);
    server.cycle_srv("_sip._udp.pbx.example", 5, &[&a, &b]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let reply = ask_udp(&server, "_sip._udp.pbx.example", RecordType::SRV).await;
        let RData::SRV(srv) = &reply.answers[0].data else { panic!("no SRV in {reply:?}") };
        seen.push(srv.target.to_ascii());
    }
    assert_eq!(seen, ["a.example.", "b.example.", "a.example."]);
}

use super::*;
use crate::flow::Cause;

fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    metrics.render().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_counter_of_a_closed_label_set_exists_at_zero() {
    let m = Metrics::new();
    for series in [
        r#"holdline_requests_total{method="REGISTER",side="phone",transport="udp"}"#,
        r#"holdline_requests_total{method="other",side="upstream",transport="tls"}"#,
        r#"holdline_responses_total{code_class="6xx",method="PUBLISH",origin="local",side="phone"}"#,
        r#"holdline_messages_dropped_total{reason="other",side="upstream"}"#,
        r#"holdline_failovers_total{reason="manual"}"#,
        r#"holdline_dns_lookups_total{outcome="servfail",record="srv"}"#,
        r#"holdline_connection_errors_total{reason="tls",side="upstream",transport="tls"}"#,
        r#"holdline_tls_handshakes_total{outcome="ok",side="phone"}"#,
        "holdline_register_retries_total",
        "holdline_register_exhausted_total",
        r#"holdline_udp_receive_drops_total{side="phone"}"#,
        r#"holdline_retransmissions_total{side="upstream"}"#,
    ] {
        assert_eq!(value(&m, series), Some(0.0), "{series}");
    }
    assert!(m.render().contains("process_resident_memory_bytes "));
}

#[test]
fn a_handle_counts_in_the_series_its_arguments_name() {
    let m = Metrics::new();
    for (i, side) in Side::ALL.into_iter().enumerate() {
        for (j, transport) in Transport::ALL.into_iter().enumerate() {
            for (k, method) in Method::ALL.into_iter().enumerate() {
                m.requests(side, method, transport).inc_by((i * 100 + j * 1000 + k) as u64);
                let series = format!(
                    r#"holdline_requests_total{{method="{}",side="{}",transport="{}"}}"#,
                    method.as_str(),
                    side.as_str(),
                    transport.as_str()
                );
                assert_eq!(m.requests(side, method, transport).get(), (i * 100 + j * 1000 + k) as u64);
                assert_eq!(value(&m, &series), Some((i * 100 + j * 1000 + k) as f64), "{series}");
            }
        }
    }
    m.responses(Side::Upstream, Method::Invite, 486, Origin::Relayed).inc();
    m.responses(Side::Phone, Method::Register, 503, Origin::Local).inc_by(2);
    m.connection_errors(Side::Upstream, Transport::Tcp, Cause::Reset.as_str()).inc();
    m.dropped(Side::Phone, "a reason nobody listed").inc();
    m.lookups(Record::Aaaa, LookupOutcome::NoData).inc();
    m.handshakes(Side::Upstream, Handshake::Certificate).inc();
    m.connections(Side::Upstream, Transport::Tls).set(7);
    for (series, expected) in [
        (r#"holdline_responses_total{code_class="4xx",method="INVITE",origin="relayed",side="upstream"}"#, 1.0),
        (r#"holdline_responses_total{code_class="5xx",method="REGISTER",origin="local",side="phone"}"#, 2.0),
        (r#"holdline_connection_errors_total{reason="reset",side="upstream",transport="tcp"}"#, 1.0),
        (r#"holdline_messages_dropped_total{reason="other",side="phone"}"#, 1.0),
        (r#"holdline_dns_lookups_total{outcome="nodata",record="aaaa"}"#, 1.0),
        (r#"holdline_tls_handshakes_total{outcome="certificate",side="upstream"}"#, 1.0),
        (r#"holdline_connections{side="upstream",transport="tls"}"#, 7.0),
    ] {
        assert_eq!(value(&m, series), Some(expected), "{series}");
    }
}

#[test]
fn targets_come_and_go_and_those_that_stay_keep_their_counts() {
    let a = TargetLabels { label: "a.example:5060", transport: Transport::Udp, priority: 10, weight: 50 };
    let b = TargetLabels { label: "b.example:5060", priority: 20, ..a };
    let attempts = r#"holdline_register_attempts_total{outcome="failed",target="a.example:5060"}"#;
    let m = Metrics::new();

    m.set_targets(&[a, b]);
    assert_eq!(value(&m, attempts), Some(0.0));
    m.target(a.label).attempts(AttemptOutcome::Failed).inc();
    m.target(a.label).failures(FailureReason::from(Cause::Refused)).inc();

    m.set_targets(&[TargetLabels { weight: 60, ..a }]);
    assert_eq!(value(&m, attempts), Some(1.0));
    assert_eq!(value(&m, "holdline_targets"), Some(1.0));
    let text = m.render();
    assert!(!text.contains("b.example"));
    assert!(text.contains(r#"target="a.example:5060",transport="udp",weight="60""#));
    assert!(!text.contains(r#"weight="50""#));
    assert!(text.contains(r#"holdline_register_failures_total{reason="refused",target="a.example:5060"} 1"#));

    m.target("b.example:5060").attempts(AttemptOutcome::Success).inc();
    m.set_targets(&[]);
    assert!(!m.render().contains(".example"));
}

#[test]
fn a_record_set_without_end_does_not_become_series_without_end() {
    let m = Metrics::new();
    let labels: Vec<String> = (0..200).map(|n| format!("t{n}.example:5060")).collect();
    let targets: Vec<TargetLabels<'_>> =
        labels.iter().map(|label| TargetLabels { label, transport: Transport::Udp, priority: 0, weight: 0 }).collect();
    m.set_targets(&targets);
    assert_eq!(m.render().matches("holdline_target_active{").count(), MAX_TARGETS);
    assert_eq!(value(&m, "holdline_targets"), Some(200.0));
}

#[test]
fn a_targets_certificate_end_comes_and_goes_with_the_target() {
    let m = Metrics::new();
    let target = |label| TargetLabels { label, transport: Transport::Tls, priority: 10, weight: 0 };
    m.set_targets(&[target("a.example:5061")]);
    m.set_certificate_not_after(CertificateRole::Client, 1.0);
    m.set_shown_certificate("a.example:5061", 1_900_000_000);
    m.set_shown_certificate("stranger.example:5061", 1_900_000_000);
    let series = r#"holdline_tls_certificate_not_after_timestamp_seconds{role="upstream",target="a.example:5061"}"#;
    assert_eq!(value(&m, series), Some(1_900_000_000.0));
    assert_eq!(value(&m, r#"holdline_tls_certificate_not_after_timestamp_seconds{role="client"}"#), Some(1.0));
    assert_eq!(value(&m, r#"holdline_target_priority{target="a.example:5061"}"#), Some(10.0));
    assert_eq!(m.shown_certificate("a.example:5061"), Some(1_900_000_000));
    assert!(!m.render().contains("stranger"), "only announced targets have series");
    m.set_targets(&[target("b.example:5061")]);
    assert!(!m.render().contains("a.example"), "{}", m.render());
    assert_eq!(m.shown_certificate("a.example:5061"), None);
}

#[test]
fn a_certificate_end_is_absent_until_there_is_a_certificate() {
    let m = Metrics::new();
    assert!(!m.render().contains("tls_certificate_not_after_timestamp_seconds{"));
    m.set_certificate_not_after(CertificateRole::Listener, 1_900_000_000.0);
    let series = r#"holdline_tls_certificate_not_after_timestamp_seconds{role="listener"}"#;
    assert_eq!(value(&m, series), Some(1_900_000_000.0));
}

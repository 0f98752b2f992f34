//! What a failed question means, and which of two failures says more.

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;

use crate::upstream::LookupFailure;

/// Of two failures the one that tells more: SERVFAIL before silence before the rest.
pub(super) fn telling(before: Option<LookupFailure>, now: LookupFailure) -> LookupFailure {
    let rank = |failure: &LookupFailure| match failure {
        LookupFailure::NxDomain | LookupFailure::NoData | LookupFailure::NoService => 0,
        LookupFailure::ServFail => 1,
        LookupFailure::Timeout => 2,
        LookupFailure::Error(_) => 3,
    };
    match before {
        Some(before) if rank(&before) <= rank(&now) => before,
        Some(_) | None => now,
    }
}

pub(super) fn failure(error: NetError) -> LookupFailure {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => negative(none.response_code),
        NetError::Dns(DnsError::ResponseCode(code)) => negative(code),
        NetError::Timeout => LookupFailure::Timeout,
        other => LookupFailure::Error(format!("name server: {other}")),
    }
}

/// What a response code without records means.
pub(super) fn negative(code: ResponseCode) -> LookupFailure {
    match code {
        ResponseCode::NoError => LookupFailure::NoData,
        ResponseCode::NXDomain => LookupFailure::NxDomain,
        ResponseCode::ServFail => LookupFailure::ServFail,
        other => LookupFailure::Error(format!("the name server answered {other}")),
    }
}

//! `clientIPDetection` of a class.

use super::cidrs;
use crate::api::{ClientIpDetection, ProxyProtocolMode};
use crate::compile::verdict::Fault;
use crate::routing::access::{ClientDetection, ProxyProtocol};

/// What the class believes of its load balancers.
pub(in crate::compile) fn detection(block: Option<&ClientIpDetection>, faults: &mut Vec<Fault>) -> ClientDetection {
    let Some(block) = block else { return ClientDetection::default() };
    ClientDetection {
        proxy_protocol: match block.proxy_protocol {
            None | Some(ProxyProtocolMode::Disabled) => ProxyProtocol::Disabled,
            Some(ProxyProtocolMode::Optional) => ProxyProtocol::Optional,
            Some(ProxyProtocolMode::Required) => ProxyProtocol::Required,
        },
        trusted: cidrs(&block.trusted_cidrs, "spec.clientIPDetection.trustedCIDRs", faults),
        trusted_hops: block.num_trusted_hops.and_then(|hops| u8::try_from(hops).ok()).unwrap_or_default(),
    }
}

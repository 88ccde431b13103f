//! What the QUIC library's errors mean for a caller: the only place that reads them.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{ConnectError, ConnectionError, ReadError, TransportErrorCode, WriteError};
use shoal_wire::Status;

use crate::error::NetError;

/// TLS alerts (RFC 8446 section 6) that mean "your certificate does not do": bad_certificate to unknown_ca, access_denied,
/// decrypt_error and certificate_required.
fn certificate_alert(code: TransportErrorCode) -> Option<u8> {
    let alert = u8::try_from(u64::from(code).checked_sub(0x100)?).ok()?;
    matches!(alert, 42..=46 | 48 | 49 | 51 | 116).then_some(alert)
}

/// True if the peer presented no certificate at all.
pub(crate) fn lacks_certificate(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(error) if certificate_alert(error.code) == Some(116))
}

/// True if the peer refused this process's certificate.
pub(crate) fn is_refusal(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ConnectionClosed(close) if certificate_alert(close.error_code).is_some())
}

/// A connection attempt did not begin.
pub(crate) fn connect(peer: SocketAddr, error: ConnectError) -> NetError {
    match error {
        ConnectError::EndpointStopping => NetError::Closed,
        error => NetError::Connect { peer, source: Arc::new(error) },
    }
}

/// A connection ended, or did not come to be.
pub(crate) fn connection(peer: SocketAddr, error: ConnectionError) -> NetError {
    let reason = match &error {
        ConnectionError::TransportError(error) if certificate_alert(error.code).is_some() => {
            Some(format!("this process refuses the peer's ({})", error.reason))
        }
        ConnectionError::ConnectionClosed(close) if is_refusal(&error) => {
            Some(format!("the peer refuses this process's ({})", String::from_utf8_lossy(&close.reason)))
        }
        _ => None,
    };
    match reason {
        Some(reason) => NetError::Refused { peer, reason },
        None => NetError::Lost { peer, source: Arc::new(error) },
    }
}

/// Reading an answer failed.
pub(crate) fn read(peer: SocketAddr, error: ReadError) -> NetError {
    match error {
        ReadError::Reset(code) => NetError::Reset { peer, status: Status::from_reset_code(code.into_inner()) },
        ReadError::ConnectionLost(error) => connection(peer, error),
        error @ (ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
            NetError::Lost { peer, source: Arc::new(error) }
        }
    }
}

/// Writing failed.
pub(crate) fn write(peer: SocketAddr, error: WriteError) -> NetError {
    match error {
        WriteError::Stopped(_) => NetError::Unwanted { peer },
        WriteError::ConnectionLost(error) => connection(peer, error),
        error @ (WriteError::ClosedStream | WriteError::ZeroRttRejected) => {
            NetError::Lost { peer, source: Arc::new(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_alerts_are_told_from_other_codes() {
        for alert in 0..=255u8 {
            let refused = [42, 43, 44, 45, 46, 48, 49, 51, 116].contains(&alert);
            assert_eq!(certificate_alert(TransportErrorCode::crypto(alert)), refused.then_some(alert));
        }
        assert_eq!(certificate_alert(TransportErrorCode::INTERNAL_ERROR), None);
    }
}

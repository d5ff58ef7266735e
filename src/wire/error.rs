//! STUN error codes with their short reason phrases.

/// The codes this server sends; the number is the RFC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 300 (RFC 8489 §10)
    TryAlternate,
    /// 400 (RFC 8489 §14.8)
    BadRequest,
    /// 401 (RFC 8489 §14.8)
    Unauthenticated,
    /// 403 (RFC 8656 §19)
    Forbidden,
    /// 420 (RFC 8489 §14.8)
    UnknownAttribute,
    /// 437 (RFC 8656 §19)
    AllocationMismatch,
    /// 438 (RFC 8489 §14.8)
    StaleNonce,
    /// 440 (RFC 8656 §19)
    AddressFamilyNotSupported,
    /// 441 (RFC 8656 §19)
    WrongCredentials,
    /// 442 (RFC 8656 §19)
    UnsupportedTransportProtocol,
    /// 443 (RFC 8656 §19)
    PeerAddressFamilyMismatch,
    /// 446 (RFC 6062 §6.3)
    ConnectionAlreadyExists,
    /// 447 (RFC 6062 §6.3)
    ConnectionTimeoutOrFailure,
    /// 486 (RFC 8656 §19)
    AllocationQuotaReached,
    /// 500 (RFC 8489 §14.8)
    ServerError,
    /// 508 (RFC 8656 §19)
    InsufficientCapacity,
}

impl ErrorCode {
    /// The three-digit number.
    pub const fn number(self) -> u16 {
        match self {
            ErrorCode::TryAlternate => 300,
            ErrorCode::BadRequest => 400,
            ErrorCode::Unauthenticated => 401,
            ErrorCode::Forbidden => 403,
            ErrorCode::UnknownAttribute => 420,
            ErrorCode::AllocationMismatch => 437,
            ErrorCode::StaleNonce => 438,
            ErrorCode::AddressFamilyNotSupported => 440,
            ErrorCode::WrongCredentials => 441,
            ErrorCode::UnsupportedTransportProtocol => 442,
            ErrorCode::PeerAddressFamilyMismatch => 443,
            ErrorCode::ConnectionAlreadyExists => 446,
            ErrorCode::ConnectionTimeoutOrFailure => 447,
            ErrorCode::AllocationQuotaReached => 486,
            ErrorCode::ServerError => 500,
            ErrorCode::InsufficientCapacity => 508,
        }
    }

    /// A short phrase for people; nothing may depend on it. Short, because unauthenticated replies should stay small.
    pub const fn reason(self) -> &'static str {
        match self {
            ErrorCode::TryAlternate => "Alternate",
            ErrorCode::BadRequest => "Bad",
            ErrorCode::Unauthenticated => "Auth",
            ErrorCode::Forbidden => "Forbidden",
            ErrorCode::UnknownAttribute => "Unknown",
            ErrorCode::AllocationMismatch => "Mismatch",
            ErrorCode::StaleNonce => "Stale",
            ErrorCode::AddressFamilyNotSupported => "Family",
            ErrorCode::WrongCredentials => "User",
            ErrorCode::UnsupportedTransportProtocol => "Transport",
            ErrorCode::PeerAddressFamilyMismatch => "Peer family",
            ErrorCode::ConnectionAlreadyExists => "Exists",
            ErrorCode::ConnectionTimeoutOrFailure => "Timeout",
            ErrorCode::AllocationQuotaReached => "Quota",
            ErrorCode::ServerError => "Error",
            ErrorCode::InsufficientCapacity => "Capacity",
        }
    }
}

//! Why a connection was closed; each reason is a counter and a metric label.

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Closing {
    /// The client closed it.
    ByClient,
    /// The network broke it, or the kernel gave up on it.
    Broken,
    /// It sent something that is neither STUN nor ChannelData, or does not begin with STUN: HTTP, scanners.
    Foreign,
    /// It sent a STUN message whose length is no multiple of four.
    Misaligned,
    /// It announced a message that is too long, or too long for a client without an allocation.
    TooLong,
    /// It does not read its replies.
    NotReading,
    /// It sent nothing for too long and has no allocation.
    Idle,
    /// It was open for too long without a first message.
    GreetingTimeout,
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// The TLS handshake failed.
    HandshakeFailed,
    /// The TLS session failed after the handshake.
    TlsFailed,
    /// A trusted proxy took too long to say whose connection it is.
    ProxyTimeout,
    /// A trusted proxy did not say whose connection it is.
    ProxyMissing,
    /// A trusted proxy's header is broken.
    ProxyMalformed,
    /// Somebody who is no trusted proxy sent a PROXY header.
    ProxyUntrusted,
    /// There are as many connections as there may be.
    Full,
    /// The source has as many connections as it may have.
    SourceFull,
    /// It carried the data of a connection with a peer, and that is over.
    DataOver,
}

impl Closing {
    /// Every reason, in the order of [`Closing::index`].
    pub const ALL: [Closing; 18] = [
        Closing::ByClient,
        Closing::Broken,
        Closing::Foreign,
        Closing::Misaligned,
        Closing::TooLong,
        Closing::NotReading,
        Closing::Idle,
        Closing::GreetingTimeout,
        Closing::HandshakeTimeout,
        Closing::HandshakeFailed,
        Closing::TlsFailed,
        Closing::ProxyTimeout,
        Closing::ProxyMissing,
        Closing::ProxyMalformed,
        Closing::ProxyUntrusted,
        Closing::Full,
        Closing::SourceFull,
        Closing::DataOver,
    ];

    /// A small number for tables of counters.
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Closing::ByClient => "by_client",
            Closing::Broken => "broken",
            Closing::Foreign => "foreign",
            Closing::Misaligned => "misaligned",
            Closing::TooLong => "too_long",
            Closing::NotReading => "not_reading",
            Closing::Idle => "idle",
            Closing::GreetingTimeout => "greeting_timeout",
            Closing::HandshakeTimeout => "handshake_timeout",
            Closing::HandshakeFailed => "handshake_failed",
            Closing::TlsFailed => "tls_failed",
            Closing::ProxyTimeout => "proxy_timeout",
            Closing::ProxyMissing => "proxy_missing",
            Closing::ProxyMalformed => "proxy_malformed",
            Closing::ProxyUntrusted => "proxy_untrusted",
            Closing::Full => "full",
            Closing::SourceFull => "source_full",
            Closing::DataOver => "data_over",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        for (index, closing) in Closing::ALL.into_iter().enumerate() {
            assert_eq!(closing.index(), index);
        }
    }
}

//! A server whose operator configured nothing.

use std::net::UdpSocket;

use crate::support::{Folder, PATIENCE, Serve, free_port};

/// A request or indication: type, attributes.
fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).expect("a short message");
    let head = [kind.to_be_bytes(), length.to_be_bytes()].concat();
    [&head[..], &[0x21, 0x12, 0xa4, 0x42], &[9; 12], attributes].concat()
}

#[test]
fn an_empty_configuration_is_no_open_relay() {
    let port = free_port();
    // Nothing but where to listen, so that the test may run beside others.
    let folder = Folder::with(&format!("[listen]\nudp = [\"127.0.0.1:{port}\"]\n[api]\nlisten = []\n"));
    let serve = Serve::start(&folder.config());
    serve.notified("READY=1");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let ask = |request: &[u8]| {
        socket.send_to(request, ("127.0.0.1", port)).expect("a request sent");
        let mut buffer = [0; 512];
        let (length, _) = socket.recv_from(&mut buffer).expect("an answer");
        buffer[..length].to_vec()
    };
    assert_eq!(ask(&message(0x0001, &[]))[..2], [0x01, 0x01], "Binding is answered");
    // Allocate with REQUESTED-TRANSPORT, Refresh, CreatePermission, ChannelBind: the error class, and 403.
    for (method, attributes) in
        [(0x0003, &[0x00, 0x19, 0, 4, 17, 0, 0, 0][..]), (0x0004, &[]), (0x0008, &[]), (0x0009, &[])]
    {
        let answer = ask(&message(method, attributes));
        let error = [0x01, 0x10 | u8::try_from(method).expect("a method")];
        assert_eq!(answer[..2], error, "{method:#06x}");
        assert!(answer[20..].starts_with(&[0x00, 0x09]) && answer[26..28] == [4, 3], "403 and not {answer:02x?}");
    }
}

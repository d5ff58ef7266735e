//! `turnwell decode`: messages by hand and whole captures, from files, standard input and the command line.

use std::process::Output;

use turnwell::wire::{AttributeType, Class, Method, TransactionId, Writer};

use crate::support::{Folder, PATIENCE, TURNWELL};

fn decode(args: &[&str], stdin: &[u8]) -> Output {
    let mut command = assert_cmd::Command::new(TURNWELL);
    command.arg("decode").args(args).write_stdin(stdin).timeout(PATIENCE).output().expect("a program to run")
}

#[track_caller]
fn says(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for word in words {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
}

fn binding() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::success(&mut bytes, Method::BINDING, TransactionId([7; 12]));
    writer
        .xor_address(AttributeType::XOR_MAPPED_ADDRESS, "[2001:db8::7]:40000".parse().expect("an address"))
        .fingerprint();
    writer.finish();
    bytes
}

/// The request of RFC 5769 §2.4, whose password is told there.
const RFC5769: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c\
                       662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700000800\
                       14f67024656dd64a3e02b8e0712e85c9a28ca89666";
const RFC5769_PASSWORD: &str = "TheMatrIX";

#[test]
fn one_message_in_each_form_and_from_each_place() {
    let hex: String = binding().iter().map(|byte| format!("{byte:02x}")).collect();
    let words =
        ["Binding success response", "XOR-MAPPED-ADDRESS", "[2001:db8::7]:40000", "FINGERPRINT                right"];
    says(&decode(&["--message", &hex], b""), &words);
    says(&decode(&[], hex.as_bytes()), &words);
    says(&decode(&["-"], &binding()), &words);
    let folder = Folder::with("");
    folder.write("message", &hex, 0o600);
    says(&decode(&[folder.path("message").to_str().expect("UTF-8")], b""), &words);
}

#[test]
fn the_integrity_of_a_published_message_is_right_with_its_password_only() {
    let folder = Folder::with("");
    folder.write("right", RFC5769_PASSWORD, 0o600);
    folder.write("wrong", "TheMatrix", 0o600);
    let file = |name: &str| folder.path(name).to_str().expect("UTF-8").to_owned();
    says(
        &decode(&["--message", RFC5769, "--password-file", &file("right")], b""),
        &["MESSAGE-INTEGRITY          right", "example.org"],
    );
    says(
        &decode(&["--message", RFC5769, "--password-file", &file("wrong")], b""),
        &["MESSAGE-INTEGRITY          WRONG"],
    );
    says(
        &decode(&["--message", RFC5769, "--password-file", "-"], b"TheMatrIX\n"),
        &["MESSAGE-INTEGRITY          right"],
    );
}

#[test]
fn what_is_no_message_is_65_and_what_cannot_be_read_66() {
    for (args, stdin, code, words) in [
        (&["--message", "no message!"][..], &b""[..], 65, "neither hexadecimal nor base64"),
        (&[], b"", 65, "nothing to decode"),
        (&[], b"\xa1\xb2\xc3\xd4", 65, "cut off"),
        (&["/nonexistent"], b"", 66, "/nonexistent"),
        (&["--message", "00", "--key-file", "/nonexistent"], b"", 64, "--key-file"),
    ] {
        let output = decode(args, stdin);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && stderr.contains(words), "{args:?}: {stderr}");
    }
}

/// A capture with a request over UDP and ChannelData that two segments of TCP carry.
#[test]
fn a_capture_is_read_as_a_whole() {
    let ip = |protocol: u8, segment: &[u8]| {
        let total = u16::try_from(20 + segment.len()).expect("short").to_be_bytes();
        let header = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        [&[0; 12][..], &[8, 0], &header, segment].concat()
    };
    let udp = |payload: &[u8]| {
        let length = u16::try_from(8 + payload.len()).expect("short").to_be_bytes();
        ip(17, &[&[0x13, 0x88, 0x0d, 0x96, length[0], length[1], 0, 0], payload].concat())
    };
    let tcp = |number: u8, payload: &[u8]| {
        let header = [0x13, 0x89, 0x0d, 0x96, 0, 0, 0, number, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0];
        ip(6, &[&header, payload].concat())
    };
    let mut request = Vec::new();
    Writer::new(&mut request, Class::Request, Method::BINDING, TransactionId([9; 12])).finish();
    let frames = [udp(&request), tcp(1, &[0x40, 1, 0]), tcp(4, &[5, 1, 2, 3, 4, 5, 0, 0, 0])];
    let mut capture: Vec<u8> =
        [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    for (second, frame) in (0u32..).zip(&frames) {
        let length = u32::try_from(frame.len()).expect("short");
        capture.extend([second, 0, length, length].iter().flat_map(|word| word.to_le_bytes()));
        capture.extend(frame);
    }
    says(
        &decode(&[], &capture),
        &[
            "1 +0.000000 UDP 10.0.0.1:5000 → 10.0.0.2:3478\nBinding request",
            "3 +2.000000 TCP 10.0.0.1:5001 → 10.0.0.2:3478\nChannelData on 0x4001, 5 bytes\n  0102030405",
        ],
    );
    assert_eq!(decode(&[], &capture[..24]).status.code(), Some(65), "a capture without a message");
}

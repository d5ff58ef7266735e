//! The program as a whole: started as a child process on free ports, spoken to from outside. A file per situation.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the bans are for the core")]

mod bench;
mod caller;
mod certificates;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod decode;
mod diagnosis;
mod doctor;
mod doctor_lab;
mod drain;
mod features;
mod hostile;
mod http;
mod https;
mod import;
mod lab;
mod logs;
mod made_up;
mod monitoring;
mod oracle;
mod products;
mod reload;
mod security;
mod served;
mod sessions;
mod spoofed;
mod streams;
mod support;
mod systemd;
mod talker;
mod tcp_relaying;
mod tls;
mod turn_crate;
mod ystreet;

//! The `turnwell` command; everything is in the library.

fn main() -> std::process::ExitCode {
    turnwell::daemon::main()
}

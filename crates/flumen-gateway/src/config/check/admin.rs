//! The listener for operators.

use super::{
    super::{Admin, section::Section},
    Context, header_secret,
};

pub(super) fn admin(mut section: Section<'_>, context: &mut Context) -> Admin {
    let listen = section.string("listen").and_then(|address| {
        let parsed: Option<std::net::SocketAddr> = address.parse().ok();
        if parsed.is_none() {
            let hint = Some("for example 127.0.0.1:9191".to_owned());
            section.fault("listen", format_args!("`{address}` is not an address with a port"), hint);
        }
        parsed
    });
    let token = header_secret(&mut section, ["token_env", "token_file"], context);
    match listen {
        Some(address) if !address.ip().is_loopback() && token.is_none() => {
            let hint = Some("give `token_env` or `token_file`, or listen on 127.0.0.1".to_owned());
            section.fault("listen", "the admin API is open to other machines without a token", hint);
        }
        None if token.is_some() => section.fault("listen", "a token needs something that asks for it", None),
        _ => {}
    }
    section.finish();
    Admin { listen, token }
}

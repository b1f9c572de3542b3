//! `kumon web`.

use std::net::TcpStream;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::config::Config;
use crate::web::Key;

/// Prints the address that opens the page.
///
/// # Errors
/// When nobody listens there, or the key can't be read by this user.
pub(crate) fn web(config: &Config) -> Result<ExitCode> {
    if !config.web.enabled {
        bail!("the configuration has web.enabled: false");
    }
    let listen = config.web.listen;
    TcpStream::connect(listen).with_context(|| {
        format!("{listen}: nobody answers; start the agent with 'kumon run' or 'kumon ship'")
    })?;
    println!("{}", Key::read(&config.path.web_key())?.address(listen));
    Ok(ExitCode::SUCCESS)
}

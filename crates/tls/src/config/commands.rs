//! `ssl_conf_command`: OpenSSL's own configuration commands, those that mean something to rustls.

/// What the commands change.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) ciphers: Option<String>,
    pub(super) ciphersuites: Option<String>,
    pub(super) groups: Option<String>,
    pub(super) server_preference: bool,
    pub(super) tickets: bool,
    /// Lowest and highest protocol, as 12 and 13.
    versions: (u8, u8),
}

impl Commands {
    /// Reads commands in order, the last of a name counts. The error is nginx's words for a command OpenSSL doesn't know.
    pub(super) fn new(commands: &[(String, String)], warnings: &mut Vec<String>) -> Result<Commands, String> {
        let mut read = Commands {
            ciphers: None,
            ciphersuites: None,
            groups: None,
            server_preference: false,
            tickets: true,
            versions: (0, u8::MAX),
        };
        for (name, value) in commands {
            read.read(name, value, warnings)?;
        }
        Ok(read)
    }

    /// Whether a protocol is within the limits.
    pub(super) fn allows(&self, version: u8) -> bool {
        (self.versions.0..=self.versions.1).contains(&version)
    }

    fn read(&mut self, name: &str, value: &str, warnings: &mut Vec<String>) -> Result<(), String> {
        match name.to_ascii_lowercase().as_str() {
            "ciphersuites" => self.ciphersuites = Some(value.to_owned()),
            "cipherstring" => self.ciphers = Some(value.to_owned()),
            "groups" | "curves" => self.groups = Some(value.to_owned()),
            "minprotocol" => self.versions.0 = version(value).unwrap_or(0),
            "maxprotocol" => self.versions.1 = version(value).unwrap_or(u8::MAX),
            "options" => value.split(',').for_each(|option| self.option(option.trim(), warnings)),
            _ if KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)) => {
                warnings.push(format!("OpenSSL's command \"{name}\" has no effect"));
            }
            _ => {
                return Err(format!(
                    "SSL_CONF_cmd(\"{name}\", \"{value}\") failed \
                     (SSL: error:0A000182:SSL routines::invalid configuration name)"
                ));
            }
        }
        Ok(())
    }

    fn option(&mut self, option: &str, warnings: &mut Vec<String>) {
        let (on, name) = match option.strip_prefix('-') {
            Some(name) => (false, name),
            None => (true, option.strip_prefix('+').unwrap_or(option)),
        };
        match name.to_ascii_lowercase().as_str() {
            "serverpreference" => self.server_preference = on,
            "sessionticket" => self.tickets = on,
            // What rustls does anyhow, or what only makes OpenSSL faster.
            "ktls"
            | "norenegotiation"
            | "antireplay"
            | "bugs"
            | "ecdhsingle"
            | "dhsingle"
            | "compression"
            | "encryptthenmac"
            | "middleboxcompat"
            | "extendedmastersecret"
            | "emptyfragments" => {}
            _ => warnings.push(format!("OpenSSL's option \"{option}\" has no effect")),
        }
    }
}

/// Commands OpenSSL has and rustls has nothing for.
const KNOWN: [&str; 18] = [
    "SignatureAlgorithms",
    "ClientSignatureAlgorithms",
    "Protocol",
    "ECDHParameters",
    "DHParameters",
    "RecordPadding",
    "NumTickets",
    "VerifyMode",
    "VerifyCAFile",
    "VerifyCAPath",
    "ChainCAFile",
    "ChainCAPath",
    "RequestCAFile",
    "ClientCAFile",
    "ClientCAPath",
    "Certificate",
    "PrivateKey",
    "ServerInfoFile",
];

fn version(text: &str) -> Option<u8> {
    match text {
        "TLSv1.3" => Some(13),
        "TLSv1.2" => Some(12),
        "TLSv1.1" => Some(11),
        "TLSv1" => Some(10),
        "SSLv3" => Some(3),
        _ => None,
    }
}

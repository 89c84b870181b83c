//! `keyring`: wrapping keys of client-side envelopes in a file, sealed by keys of a KES.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comfy_table::{Table, presets};
use keyrotate_envelope::Description;
use keyrotate_envelope::keyring::{Keyring, KeyringError, SealedWrappingKey};
use keyrotate_envelope::secret::{KEY_BYTES, WrappingKey};
use keyrotate_kms::KmsErrorKind;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::args::{KeyringImportArgs, KeyringListArgs, KeyringNewArgs, KeyringOpenArgs, KeyringPlace};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::verbs::print;
use crate::key;

/// No key file that is taken is longer: an RSA key of 8192 bits, in PEM, has some 6,500 bytes.
const LONGEST_KEY: u64 = 16 << 10;
const LONGEST_KEYRING: u64 = 1 << 20;

/// Makes a key and adds it: the KES makes it, and only its sealed form is kept.
pub(crate) async fn new(args: KeyringNewArgs) -> Result<Exit, Failure> {
    let KeyringPlace { file, name, key: kes_key } = args.place;
    let mut keyring = read_or_new(&file)?;
    let mut described = described(args.description)?;
    if described.is_empty() {
        described.insert("kid".to_owned(), name.clone());
    }
    let unsealed = |key_of: &WrappingKey| SealedWrappingKey::unsealed(&name, key_of, described.clone(), &kes_key);
    // What it is bound to does not depend on the key, which KES has yet to make.
    let stand_in = WrappingKey::aes(&[0; KEY_BYTES]).ok_or_else(no_key)?;
    let context = unsealed(&stand_in).context();
    let made = key::kes()?.generate(&kes_key, context.as_bytes()).await.map_err(|error| key::broke(&error))?;
    let wrapping = WrappingKey::aes(made.plaintext.expose()).ok_or_else(no_key)?;
    add(&mut keyring, unsealed(&wrapping).seal(&made.ciphertext), &file)?;
    told(args.output, &keyring, &file, &name)
}

/// Adds a key that clients have used so far.
pub(crate) async fn import(args: KeyringImportArgs) -> Result<Exit, Failure> {
    let KeyringPlace { file, name, key: kes_key } = args.place;
    let mut keyring = read_or_new(&file)?;
    let text = read_key(&args.from)?;
    let (plain, wrapping) = wrapping_key(&text).ok_or_else(|| {
        Failure::usage(
            format!("`{}` holds no key", args.from.display()),
            "give an AES-256 key as 32 bytes, 64 hex digits or base64, or an RSA private key as PKCS#8 (PEM or DER): \
             `openssl pkcs8 -topk8 -nocrypt` makes one of other forms",
        )
    })?;
    let unsealed = SealedWrappingKey::unsealed(&name, &wrapping, described(args.description)?, &kes_key);
    let sealed = key::kes()?.encrypt(&kes_key, &plain, unsealed.context().as_bytes()).await;
    add(&mut keyring, unsealed.seal(&sealed.map_err(|error| key::broke(&error))?), &file)?;
    told(args.output, &keyring, &file, &name)
}

/// Shows what a keyring has.
pub(crate) fn list(args: &KeyringListArgs) -> Result<Exit, Failure> {
    let keyring = read(&args.file)?;
    print(args.output, &keyring, || table(&keyring.keys))?;
    Ok(Exit::Completed)
}

/// Opens a key: to see that it can be, or to give it to clients.
pub(crate) async fn open(args: KeyringOpenArgs) -> Result<Exit, Failure> {
    let keyring = read(&args.file)?;
    let sealed = keyring.find(&args.name).ok_or_else(|| {
        let names: Vec<_> = keyring.keys.iter().map(|key| key.name.as_str()).collect();
        Failure::usage(format!("the keyring has no key `{}`", args.name), format!("it has: {}", names.join(", ")))
    })?;
    let bytes = sealed.sealed_bytes().map_err(|error| wrong(&args.file, &error))?;
    let opened = key::kes()?.decrypt(&sealed.kes_key, &bytes, sealed.context().as_bytes()).await;
    let opened = opened.map_err(|error| match error.kind {
        KmsErrorKind::NotAuthentic => wrong(&args.file, &KeyringError::NotThatKey(args.name.clone())),
        _ => key::broke(&error),
    })?;
    sealed.opened(opened.expose()).map_err(|error| wrong(&args.file, &error))?;
    let Some(out) = &args.out else {
        let says = format!("`{}` opens: {} {}", sealed.name, sealed.kind.as_str(), sealed.fingerprint);
        print(args.output, sealed, || says)?;
        return Ok(Exit::Completed);
    };
    write_key(out, opened.expose())?;
    crate::say(&format!("wrote `{}` in clear; whoever reads it can open every object under it", sealed.name));
    Ok(Exit::Completed)
}

/// A key in any form that it is handed around in, and its bytes as they are sealed.
fn wrapping_key(text: &[u8]) -> Option<(Zeroizing<Vec<u8>>, WrappingKey)> {
    let whole = |bytes: Zeroizing<Vec<u8>>| WrappingKey::aes(&bytes).map(|key| (bytes, key));
    if let Some(found) = whole(Zeroizing::new(text.to_vec())) {
        return Some(found);
    }
    if let Ok(pem) = PrivatePkcs8KeyDer::from_pem_slice(text) {
        let der = Zeroizing::new(pem.secret_pkcs8_der().to_vec());
        return WrappingKey::rsa(&der).map(|key| (der, key));
    }
    let trimmed = text.trim_ascii();
    let decoded = hex::decode(trimmed).ok().or_else(|| STANDARD.decode(trimmed).ok()).map(Zeroizing::new);
    if let Some(found) = decoded.and_then(whole) {
        return Some(found);
    }
    WrappingKey::rsa(text).map(|key| (Zeroizing::new(text.to_vec()), key))
}

fn described(entries: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut described = BTreeMap::new();
    for (name, value) in entries {
        if !name.is_ascii() || !value.is_ascii() {
            let mend = "clients do not read other text alike where it lies in metadata";
            return Err(Failure::usage(format!("the description `{name}={value}` is not ASCII"), mend));
        }
        if described.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("the description has `{name}` twice"), "name each once"));
        }
    }
    Ok(described)
}

fn read(file: &Path) -> Result<Keyring, Failure> {
    let opened = fs::File::open(file).map_err(|error| Failure::io("can't read", file, &error))?;
    let mut text = Vec::new();
    opened.take(LONGEST_KEYRING).read_to_end(&mut text).map_err(|error| Failure::io("can't read", file, &error))?;
    Keyring::parse(&text).map_err(|error| wrong(file, &error))
}

fn read_or_new(file: &Path) -> Result<Keyring, Failure> {
    if file.try_exists().map_err(|error| Failure::io("can't read", file, &error))? {
        read(file)
    } else {
        Ok(Keyring::default())
    }
}

fn read_key(from: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Grown, it would leave parts of the key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(LONGEST_KEY).unwrap_or(0)));
    let read = if from.as_os_str() == "-" {
        io::stdin().lock().take(LONGEST_KEY).read_to_end(&mut text)
    } else {
        fs::File::open(from).and_then(|file| file.take(LONGEST_KEY).read_to_end(&mut text))
    };
    read.map(|_| text).map_err(|error| Failure::io("can't read", from, &error))
}

/// Adds a key and writes the file beside, then in the place of, the old one.
fn add(keyring: &mut Keyring, key: SealedWrappingKey, file: &Path) -> Result<(), Failure> {
    keyring.add(key).map_err(|error| wrong(file, &error))?;
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let beside = file.with_file_name(name);
    let write = || {
        let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        new.write_all(keyring.text().as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, file)
    };
    write().map_err(|error| Failure::io("can't write", file, &error))
}

/// Hands a key out: to a new file that nobody else can read, or to whoever reads standard output, which must not be a terminal.
fn write_key(out: &Path, key: &[u8]) -> Result<(), Failure> {
    if out.as_os_str() == "-" {
        let mut stdout = io::stdout().lock();
        if stdout.is_terminal() {
            let mend = "redirect it, or name a file: `--out FILE`";
            return Err(Failure::usage("a key is not printed on a terminal".to_owned(), mend));
        }
        let written = stdout.write_all(key).and_then(|()| stdout.flush());
        return written.map_err(|error| Failure::io("can't write to", Path::new("standard output"), &error));
    }
    let create = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out)?;
        file.write_all(key)?;
        file.sync_all()
    };
    create().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(
            format!("there is a file `{}` already", out.display()),
            "name a new one: no key is written over it",
        ),
        _ => Failure::io("can't write", out, &error),
    })
}

fn told(output: crate::args::Output, keyring: &Keyring, file: &Path, name: &str) -> Result<Exit, Failure> {
    let key = keyring.find(name);
    let line = || {
        let key = key.map(|key| format!("{} {}", key.kind.as_str(), key.fingerprint)).unwrap_or_default();
        format!("added `{name}` ({key}) to {}", file.display())
    };
    print(output, &key, line)?;
    Ok(Exit::Completed)
}

fn table(keys: &[SealedWrappingKey]) -> String {
    if keys.is_empty() {
        return "no keys".to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "KIND", "FINGERPRINT", "SEALED BY", "DESCRIPTION"]);
    for key in keys {
        let description = Description::of(key.description.clone()).canonical();
        // Whoever wrote the file has chosen some of these.
        let plain = |text: &str| text.escape_debug().to_string().replace("\\\"", "\"");
        table.add_row([
            plain(&key.name),
            key.kind.as_str().to_owned(),
            plain(&key.fingerprint),
            plain(&key.kes_key),
            plain(&description),
        ]);
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn wrong(file: &Path, error: &KeyringError) -> Failure {
    let mend = match error {
        KeyringError::Malformed(_) | KeyringError::NotThatKey(_) => "restore the file from where it is kept",
        KeyringError::Version(_) => "use the newer keyrotate",
        KeyringError::Name(_) | KeyringError::Taken(_) => "take another name",
        KeyringError::Described(_) => "give it a description of its own: `--description kid=NAME`",
        _ => "`keyrotate keyring list` shows what it has",
    };
    Failure::refused(format!("`{}`: {error}", file.display()), mend)
}

fn no_key() -> Failure {
    Failure::refused("KES gave no key of 32 bytes".to_owned(), "look at the service at MINIO_KMS_KES_ENDPOINT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_in_every_form_that_they_are_handed_around_in() {
        let raw = [0x11; 32];
        let hex_text = format!("{}\n", hex::encode(raw));
        let base64_text = format!("{}\n", STANDARD.encode(raw));
        for text in [&raw[..], hex_text.as_bytes(), base64_text.as_bytes()] {
            let (plain, key) = wrapping_key(text).unwrap();
            assert_eq!((plain.as_slice(), key.is_rsa()), (&raw[..], false));
        }
        for text in
            [&b""[..], b"x", &raw[..31], b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"]
        {
            assert!(wrapping_key(text).is_none(), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn an_rsa_key_is_taken_in_pem_and_der() {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        for text in [key.serialize_der(), key.serialize_pem().into_bytes()] {
            let (plain, wrapping) = wrapping_key(&text).unwrap();
            assert_eq!((plain.as_slice(), wrapping.is_rsa()), (key.serialized_der(), true));
        }
    }
}

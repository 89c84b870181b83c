//! The private key of a client certificate, out of a PEM file that may be encrypted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::config::ConfigError;

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// The header of keys that are encrypted as OpenSSL did it before PKCS #8.
const LEGACY: &str = "Proc-Type: 4,ENCRYPTED";

/// The first private key of a PEM file, opened by `password` where it is encrypted as PKCS #8 (PBES2 with AES).
pub(crate) fn read(pem: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let nothing = || ConfigError::key("there is no private key in PEM form in it");
    let text = std::str::from_utf8(pem).map_err(|_| nothing())?;
    if text.contains(LEGACY) {
        return Err(not_read("in the old form of PEM, which protects it badly"));
    }
    let Some(begin) = text.find(BEGIN) else { return PrivateKeyDer::from_pem_slice(pem).map_err(|_| nothing()) };
    let password = password.ok_or_else(|| ConfigError::password("set it: the private key is encrypted"))?;
    let (body, _) = text[begin + BEGIN.len()..].split_once(END).ok_or_else(nothing)?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    decrypt(&STANDARD.decode(body.as_bytes()).map_err(|_| nothing())?, password)
}

fn decrypt(der: &[u8], password: &str) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let unknown = || not_read("in a way that is not read here");
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| unknown())?;
    match encrypted.decrypt(password) {
        Ok(opened) => Ok(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec()).into()),
        // A wrong password now and then gives bytes that look padded right, and are no key.
        Err(pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::DecryptFailed) | pkcs8::Error::Asn1(_)) => {
            Err(ConfigError::password("it does not open the private key"))
        }
        Err(_) => Err(unknown()),
    }
}

fn not_read(how: &str) -> ConfigError {
    ConfigError::key(format!(
        "this private key is encrypted {how}; encrypt it anew (`openssl pkey -in OLD -aes256 -out NEW`) and name that one"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ed25519 key made for this test, as `openssl genpkey` writes it.
    const CLEAR: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIKofpVkycYvhDFnQWo7ini3opvZOfwMgE0a1Rha/Hzge
-----END PRIVATE KEY-----
";
    /// The same under the password `secret`, AES-256-CBC.
    const PBKDF2: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhoMNdSQKESPwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEG0nWV5QeC6TKyjAzB+KCk8EQFZj
zxvmr0qinOlf2oNw/lGTiVkvRrs9pkKSobeHZkAgd7AczgoQyMm1LWTFzj91xjos
A7AgG54HNuz0wUiP4sU=
-----END ENCRYPTED PRIVATE KEY-----
";
    /// The same, its key derived by scrypt.
    const SCRYPT: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAhnRpynOjVCaQICBAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBAsr3O6ax3MmOBjYYkBH9ESBEDgq1b0PBlkuF1l
XSOcG999+HyShc8XFCxyKqBiGYaIKY7f0KRZUgRix16c5W1XZDPSxc8fKkRLrxzp
iZZTrK0T
-----END ENCRYPTED PRIVATE KEY-----
";
    /// The same, its key derived in a way that is not read.
    const SHA1: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGNMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAgnncRUDXnNTAICCAAw
HQYJYIZIAWUDBAEqBBDOVYXUTji09oAD/pmhMr7hBECeVC7a/r/PBXHPPgxJy2+m
TPebH3LT0xapmxB4FosfFpTShRWswWIkCMKRwBnRzvSq9LElv7Pj9l11FEsvH0ga
-----END ENCRYPTED PRIVATE KEY-----
";
    /// A key as OpenSSL encrypted it before PKCS #8.
    const OLD: &str = "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,2EB820675377575E2DCA373FFBAB79C3

qHJZR/xsZ/hCB/pXpm4Vy+qcTrSSRJE+aylzP//d6nWb3rVZ2NCx60mk6g953NRs
vnudYio3wfYNH3g8UhOOTlvXh+T6pomnJa36Lhg5ZZ5waD5P/LFIiV2q2TKYJi0b
ssBtFGivruHzFprd/PAuLUa1KX1XauGkwzW59AHVec0=
-----END EC PRIVATE KEY-----
";

    #[test]
    fn keys_are_read_in_clear_and_encrypted() {
        let clear = read(CLEAR.as_bytes(), None).unwrap();
        for pem in [CLEAR, PBKDF2, SCRYPT, &format!("# my key\n{}", PBKDF2.replace('\n', "\r\n"))] {
            assert_eq!(read(pem.as_bytes(), Some("secret")).unwrap().secret_der(), clear.secret_der(), "{pem}");
        }
    }

    #[test]
    fn what_can_not_be_opened_says_what_to_do() {
        let problem = |pem: &str, password| read(pem.as_bytes(), password).unwrap_err().to_string();
        assert!(problem(PBKDF2, None).starts_with("MINIO_KMS_KES_KEY_PASSWORD: set it"));
        for pem in [PBKDF2, SCRYPT] {
            assert_eq!(problem(pem, Some("wrong")), "MINIO_KMS_KES_KEY_PASSWORD: it does not open the private key");
        }
        for pem in [OLD, SHA1] {
            let problem = problem(pem, Some("secret"));
            assert!(problem.starts_with("MINIO_KMS_KES_KEY_FILE") && problem.contains("openssl pkey"), "{problem}");
        }
        let cut = PBKDF2.split_once(END).unwrap().0;
        for pem in ["", "no key", cut, &PBKDF2.replace("MI", "!!")] {
            assert!(problem(pem, Some("secret")).contains("no private key"), "{pem}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_and_nothing_panics(der: Vec<u8>, cut in 0usize..1000) {
            let pem = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der));
            proptest::prop_assert!(read(pem.as_bytes(), Some("secret")).is_err());
            let _ = read(PBKDF2.as_bytes().get(..cut).unwrap_or_default(), Some("secret"));
        }
    }
}

//! KES: the key service, as a library and behind HTTPS.

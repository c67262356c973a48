//! What to do about TLS that has failed.

use rustls::AlertDescription;

/// The remedy, by what one side told the other when it hung up.
pub(crate) fn remedy(alert: Option<AlertDescription>) -> &'static str {
    match alert {
        Some(AlertDescription::CertificateExpired) => {
            "renew the certificate: new files are read without a restart"
        }
        Some(AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate) => {
            "use certificates of one authority on every node, each with the host of its node's address among \
             its names (subjectAltName), for servers and clients (extendedKeyUsage), and of X.509 version 3"
        }
        _ => "use certificates of one authority on every node, and TLS on all of them or on none",
    }
}

/// What one side tells the other because of `error`, or has told.
#[cfg(feature = "tcp")]
pub(crate) fn alert_of(error: &rustls::Error) -> Option<AlertDescription> {
    match error {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        rustls::Error::InvalidCertificate(error) => Some(error.clone().into()),
        _ => None,
    }
}

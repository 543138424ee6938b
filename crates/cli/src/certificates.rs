//! Certificates for development: one CA, one server certificate, one certificate a client.
//!
//! The identity of a client is the only URI in its certificate: `postern://identity/<name>`.
//! Everything is made in memory and handed back as PEM; writing it is [`crate::state_folder`]'s
//! work. Further clients can be had from a CA that exists. Not here: revocation, renewal, intermediate CAs. A fleet has its own CA.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Context;
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use postern_governance::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use rustls::pki_types::DnsName;
use x509_parser::certificate::X509Certificate;

/// Days that a development certificate may be valid at most.
pub(crate) const VALIDITY_DAYS_MAX: u16 = 365;

/// Further host names of one server certificate at most.
const HOSTS_MAX: usize = 64;

/// Client certificates made in one go at most.
const CLIENTS_MAX: usize = 256;

/// Bytes that are read of a PEM file; what is cut off by it holds no certificate of ours.
const PEM_BYTES_MAX: u64 = 64 << 10;

/// A certificate and its private key, PEM.
pub(crate) struct PemPair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A whole development set.
pub(crate) struct DevelopmentCertificates {
    pub(crate) ca: PemPair,
    pub(crate) server: PemPair,
    pub(crate) clients: Vec<(Identity, PemPair)>,
    /// Last day on which all of them are valid (UTC).
    pub(crate) valid_through: Date,
}

/// What to make.
pub(crate) struct CertificateRequest<'a> {
    pub(crate) clients: &'a [Identity],
    /// Names and addresses besides localhost, 127.0.0.1 and ::1.
    pub(crate) hosts: &'a [String],
    /// Days of validity from today on, 1 to [`VALIDITY_DAYS_MAX`].
    pub(crate) days: u16,
    pub(crate) now: Timestamp,
}

/// Makes a CA and everything it signs.
///
/// # Errors
/// A host that is neither a DNS name nor an address, or a bound that is exceeded.
pub(crate) fn make(request: &CertificateRequest<'_>) -> anyhow::Result<DevelopmentCertificates> {
    let validity = Validity::new(request.now, request.days)?;
    let (ca, issuer) = make_ca(&validity)?;
    let server = make_server(&validity, &issuer, request.hosts)?;
    Ok(DevelopmentCertificates {
        ca,
        server,
        clients: make_clients(&validity, &issuer, request.clients)?,
        valid_through: validity.last_day,
    })
}

/// A development CA that was made earlier, with the key it signs with.
pub(crate) struct ExistingCa {
    issuer: Issuer<'static, KeyPair>,
    /// Last whole day on which it is valid (UTC).
    last_day: Date,
}

impl ExistingCa {
    /// Reads the CA's certificate and its key.
    ///
    /// # Errors
    /// A file is missing, is no PEM, or the two do not belong together.
    pub(crate) fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let (of_certificate, of_key) = (certificate.display(), key.display());
        let pem = read_pem(certificate)?;
        let key = KeyPair::from_pem(&read_pem(key)?)
            .with_context(|| format!("{of_key} holds no private key in PEM that can sign"))?;
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .with_context(|| format!("{of_certificate} holds no PEM certificate"))?;
        let parsed = block
            .parse_x509()
            .with_context(|| format!("{of_certificate} holds no X.509 certificate"))?;
        anyhow::ensure!(
            parsed.is_ca(),
            "{of_certificate} is not the certificate of a CA, so it can sign no other"
        );
        anyhow::ensure!(
            parsed.public_key().raw == key.subject_public_key_info(),
            "{of_key} is not the key of {of_certificate}; put the right one there"
        );
        let last_day = end_of_validity(&parsed)
            .and_then(|end| Ok(end.to_zoned(TimeZone::UTC).date().yesterday()?))
            .with_context(|| format!("{of_certificate} has an impossible end of validity"))?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&pem, key)
                .with_context(|| format!("{of_certificate} cannot be used as a CA"))?,
            last_day,
        })
    }

    /// Makes certificates for clients, none of which outlives the CA, and the last day on which they
    /// are valid (UTC).
    ///
    /// # Errors
    /// The CA is no longer valid, or a bound is exceeded.
    pub(crate) fn make_clients(
        &self,
        clients: &[Identity],
        days: u16,
        now: Timestamp,
    ) -> anyhow::Result<(Vec<(Identity, PemPair)>, Date)> {
        let validity = Validity::new(now, days)?.until(self.last_day)?;
        anyhow::ensure!(
            validity.first_day < validity.last_day,
            "the CA was valid through {}, so nothing that it signs is; \
             make a new set with --force, or in another folder",
            self.last_day
        );
        let made = make_clients(&validity, &self.issuer, clients)?;
        Ok((made, validity.last_day))
    }
}

fn read_pem(path: &Path) -> anyhow::Result<String> {
    let place = || format!("cannot read {}", path.display());
    let mut pem = String::new();
    std::fs::File::open(path)
        .with_context(place)?
        .take(PEM_BYTES_MAX)
        .read_to_string(&mut pem)
        .with_context(place)?;
    Ok(pem)
}

/// Seconds since 1970 (UTC) at which the certificate in `pem` stops being valid.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub(crate) fn valid_until(path: &Path) -> anyhow::Result<Timestamp> {
    let pem = read_pem(path)?;
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .with_context(|| format!("{} holds no PEM certificate", path.display()))?;
    let certificate = block
        .parse_x509()
        .with_context(|| format!("{} holds no X.509 certificate", path.display()))?;
    end_of_validity(&certificate)
        .with_context(|| format!("{} has an impossible end of validity", path.display()))
}

fn end_of_validity(certificate: &X509Certificate<'_>) -> anyhow::Result<Timestamp> {
    let seconds = certificate.validity().not_after.timestamp();
    Ok(Timestamp::from_second(seconds)?)
}

/// From yesterday, so that a device whose clock is behind accepts it, to the end of the last day.
struct Validity {
    first_day: Date,
    last_day: Date,
    end: Date,
}

impl Validity {
    fn new(now: Timestamp, days: u16) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (1..=VALIDITY_DAYS_MAX).contains(&days),
            "certificates can be valid for 1 to {VALIDITY_DAYS_MAX} days, not {days}"
        );
        let today = now.to_zoned(TimeZone::UTC).date();
        let out_of_calendar = "the clock of this machine is off: no date can be computed from it";
        let last_day = today
            .checked_add(i64::from(days).days())
            .context(out_of_calendar)?;
        Ok(Self {
            first_day: today.yesterday().context(out_of_calendar)?,
            last_day,
            end: last_day.tomorrow().context(out_of_calendar)?,
        })
    }

    /// The same, but ending with `last_day` at the latest.
    fn until(self, last_day: Date) -> anyhow::Result<Self> {
        if self.last_day <= last_day {
            return Ok(self);
        }
        Ok(Self {
            first_day: self.first_day,
            last_day,
            end: last_day.tomorrow()?,
        })
    }

    fn parameters(&self, common_name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        let (year, month, day) = year_month_day(self.first_day);
        parameters.not_before = date_time_ymd(year, month, day);
        let (year, month, day) = year_month_day(self.end);
        parameters.not_after = date_time_ymd(year, month, day);
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, "Postern development");
        parameters
            .distinguished_name
            .push(DnType::CommonName, common_name);
        parameters.use_authority_key_identifier_extension = true;
        parameters
    }
}

fn make_ca(validity: &Validity) -> anyhow::Result<(PemPair, Issuer<'static, KeyPair>)> {
    let mut parameters = validity.parameters("Postern development CA");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?.pem();
    let pair = PemPair {
        certificate,
        key: key.serialize_pem(),
    };
    Ok((pair, Issuer::new(parameters, key)))
}

fn make_server(
    validity: &Validity,
    issuer: &Issuer<'_, KeyPair>,
    hosts: &[String],
) -> anyhow::Result<PemPair> {
    anyhow::ensure!(
        hosts.len() <= HOSTS_MAX,
        "{} host names asked for, at most {HOSTS_MAX} fit one certificate",
        hosts.len()
    );
    let mut parameters = validity.parameters("Postern server");
    parameters.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
    ];
    for host in hosts {
        let name = host_name(host)?;
        if !parameters.subject_alt_names.contains(&name) {
            parameters.subject_alt_names.push(name);
        }
    }
    sign_leaf(parameters, ExtendedKeyUsagePurpose::ServerAuth, issuer)
}

fn make_clients(
    validity: &Validity,
    issuer: &Issuer<'_, KeyPair>,
    clients: &[Identity],
) -> anyhow::Result<Vec<(Identity, PemPair)>> {
    anyhow::ensure!(
        clients.len() <= CLIENTS_MAX,
        "{} clients asked for, at most {CLIENTS_MAX} are made in one go",
        clients.len()
    );
    let made = clients
        .iter()
        .map(|identity| Ok((identity.clone(), make_client(validity, issuer, identity)?)));
    made.collect()
}

fn make_client(
    validity: &Validity,
    issuer: &Issuer<'_, KeyPair>,
    identity: &Identity,
) -> anyhow::Result<PemPair> {
    let mut parameters = validity.parameters(&identity.to_string());
    let uri = format!("postern://identity/{identity}");
    parameters.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
    sign_leaf(parameters, ExtendedKeyUsagePurpose::ClientAuth, issuer)
}

fn sign_leaf(
    mut parameters: CertificateParams,
    purpose: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> anyhow::Result<PemPair> {
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer)?.pem();
    Ok(PemPair {
        certificate,
        key: key.serialize_pem(),
    })
}

fn host_name(host: &str) -> anyhow::Result<SanType> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    anyhow::ensure!(
        DnsName::try_from(name).is_ok(),
        "`{host}` is neither a DNS name nor an IP address; give --host pi.local or --host 192.168.1.20"
    );
    Ok(SanType::DnsName(host.try_into()?))
}

fn year_month_day(date: Date) -> (i32, u8, u8) {
    let month = u8::try_from(date.month()).expect("a month is 1 to 12");
    let day = u8::try_from(date.day()).expect("a day of a month is 1 to 31");
    (date.year().into(), month, day)
}

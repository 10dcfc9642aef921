//! OCSP (RFC 6960): the question whether a certificate is revoked, and what an answer to it is worth. Who carries them is not
//! known here.

use aws_lc_rs::digest;
use der::asn1::{BitString, GeneralizedTime, Null, ObjectIdentifier, OctetString};
use der::oid::db::rfc5280::{ID_AD_OCSP, ID_KP_CLIENT_AUTH, ID_KP_OCSP_SIGNING};
use der::oid::db::rfc5912::{ID_SHA_1, ID_SHA_256};
use der::oid::db::rfc6960::ID_PKIX_OCSP_BASIC;
use der::{Any, Choice, Decode, Encode, Enumerated, Sequence};
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityInfoAccessSyntax, ExtendedKeyUsage};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::config::verify::{Trust, in_time, is_issued, is_signed};

/// A certificate that is asked about, and its issuer.
#[derive(Debug)]
pub struct Question {
    leaf: Certificate,
    issuer: Certificate,
    /// The issuer and what goes with it.
    chain: Vec<CertificateDer<'static>>,
}

/// What a valid answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// Of the certificate.
    pub status: Status,
    /// Until when, in seconds of the Unix epoch; nothing if it does not say.
    pub until_s: Option<u64>,
}

/// What an answer says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing against it.
    Good,
    /// It is not to be trusted any more.
    Revoked,
    /// The responder does not know it.
    Unknown,
}

impl Status {
    /// OpenSSL's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Good => "good",
            Status::Revoked => "revoked",
            Status::Unknown => "unknown",
        }
    }
}

/// How far clocks may differ, in seconds.
const SKEW_S: u64 = 300;

impl Question {
    /// About the first certificate of a chain. Its issuer is among the others, or among `authorities`.
    pub fn new(
        chain: &[CertificateDer<'static>],
        authorities: &[CertificateDer<'static>],
    ) -> Option<Question> {
        let (leaf, others) = chain.split_first()?;
        let leaf = Certificate::from_der(leaf).ok()?;
        let issuer = others.iter().chain(authorities).find_map(|der| {
            Certificate::from_der(der)
                .ok()
                .filter(|issuer| is_issued(&leaf, issuer))
                .map(|found| (found, der))
        });
        let (issuer, der) = issuer?;
        let rest = others.iter().filter(|other| *other != der).cloned();
        let chain = [der.clone()].into_iter().chain(rest).collect();
        Some(Question { leaf, issuer, chain })
    }

    /// About each certificate of the chain that a client is trusted by, but a root. Not of the chain it sent, in which others
    /// may stand that look alike; none if it is not trusted.
    pub fn of_client(chain: &[CertificateDer<'_>], trust: &Trust, now: UnixTime) -> Option<Vec<Question>> {
        let path = trust.path(chain, ID_KP_CLIENT_AUTH, now).ok()?;
        let ders = path.iter().map(|certificate| certificate.to_der().map(CertificateDer::from));
        let ders: Vec<CertificateDer<'static>> = ders.collect::<Result<_, _>>().ok()?;
        let question = |(at, pair): (usize, &[Certificate])| match pair {
            [leaf, issuer] => Some(Question {
                leaf: leaf.clone(),
                issuer: issuer.clone(),
                chain: ders.get(at + 1..)?.to_vec(),
            }),
            _ => None,
        };
        path.windows(2).enumerate().map(question).collect()
    }

    /// The URL of the responder that the certificate names.
    pub fn responder(&self) -> Option<String> {
        let access = self.leaf.tbs_certificate().get_extension::<AuthorityInfoAccessSyntax>().ok()??.1;
        access.0.iter().filter(|access| access.access_method == ID_AD_OCSP).find_map(|access| {
            match &access.access_location {
                GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str().to_owned()),
                _ => None,
            }
        })
    }

    /// What a responder is asked, DER.
    pub fn request(&self) -> Option<Vec<u8>> {
        let cert_id = CertId {
            hash_algorithm: AlgorithmIdentifierOwned { oid: ID_SHA_1, parameters: Some(Any::from(Null)) },
            issuer_name_hash: OctetString::new(self.name_hash(ID_SHA_1)?).ok()?,
            issuer_key_hash: OctetString::new(self.key_hash(ID_SHA_1)?).ok()?,
            serial_number: self.leaf.tbs_certificate().serial_number().clone(),
        };
        Request { tbs: TbsRequest { list: vec![Single { cert_id }] } }.to_der().ok()
    }

    /// What an answer is worth. It must be signed by the issuer, or by whom the issuer has given that right; with `verify`
    /// the latter is also a chain to whom that trusts (`ssl_stapling_verify`).
    ///
    /// # Errors
    /// nginx's words.
    pub fn judge(&self, answer: &[u8], verify: Option<&Trust>, now: UnixTime) -> Result<Judged, String> {
        let response = Response::from_der(answer).map_err(|_| "d2i_OCSP_RESPONSE() failed".to_owned())?;
        if response.status != Success::Successful {
            let (number, words) = (response.status as u8, response.status.words());
            return Err(format!("OCSP response not successful ({number}: {words})"));
        }
        let basic = response.bytes.filter(|bytes| bytes.kind == ID_PKIX_OCSP_BASIC);
        let basic = basic.and_then(|bytes| BasicResponse::from_der(bytes.content.as_bytes()).ok());
        let basic = basic.ok_or_else(|| "OCSP_response_get1_basic() failed".to_owned())?;
        if !self.is_signed(&basic, verify, now) {
            return Err("OCSP_basic_verify() failed".to_owned());
        }
        let data = ResponseData::from_der(&basic.data.to_der().unwrap_or_default())
            .map_err(|_| "OCSP_response_get1_basic() failed".to_owned())?;
        let single = data.responses.iter().find(|single| self.is_meant(&single.cert_id));
        let single = single.ok_or_else(|| "certificate status not found in the OCSP response".to_owned())?;
        let seconds = |time: &GeneralizedTime| time.to_unix_duration().as_secs();
        let until_s = single.next_update.as_ref().map(seconds);
        let too_early = seconds(&single.this_update) > now.as_secs() + SKEW_S;
        let too_late = until_s.is_some_and(|until| until + SKEW_S < now.as_secs());
        if too_early || too_late {
            return Err("OCSP_check_validity() failed".to_owned());
        }
        let status = match &single.status {
            CertStatus::Good(_) => Status::Good,
            CertStatus::Revoked(_) => Status::Revoked,
            CertStatus::Unknown(_) => Status::Unknown,
        };
        Ok(Judged { status, until_s })
    }

    fn is_signed(&self, basic: &BasicResponse, verify: Option<&Trust>, now: UnixTime) -> bool {
        let Ok(message) = basic.data.to_der() else { return false };
        let signed_by =
            |signer: &Certificate| is_signed(signer, &basic.algorithm, &message, &basic.signature);
        if signed_by(&self.issuer) {
            return true;
        }
        let mut delegates = basic.certificates.iter().flatten().filter(|certificate| signed_by(certificate));
        delegates.any(|delegate| {
            let purposes = delegate.tbs_certificate().get_extension::<ExtendedKeyUsage>();
            let may = purposes.is_ok_and(|purposes| {
                purposes.is_some_and(|(_, purposes)| purposes.0.contains(&ID_KP_OCSP_SIGNING))
            });
            may && in_time(delegate, now).is_ok()
                && is_issued(delegate, &self.issuer)
                && verify.is_none_or(|trust| self.is_trusted(delegate, trust, now))
        })
    }

    fn is_trusted(&self, delegate: &Certificate, trust: &Trust, now: UnixTime) -> bool {
        let Ok(der) = delegate.to_der() else { return false };
        let chain: Vec<CertificateDer<'_>> =
            [CertificateDer::from(der)].into_iter().chain(self.chain.iter().cloned()).collect();
        trust.check(&chain, ID_KP_OCSP_SIGNING, now).is_ok()
    }

    /// Whether an answer is about this certificate.
    fn is_meant(&self, id: &CertId) -> bool {
        let same =
            |hash: Option<Vec<u8>>, given: &OctetString| hash.is_some_and(|hash| hash == given.as_bytes());
        id.serial_number == *self.leaf.tbs_certificate().serial_number()
            && same(self.name_hash(id.hash_algorithm.oid), &id.issuer_name_hash)
            && same(self.key_hash(id.hash_algorithm.oid), &id.issuer_key_hash)
    }

    fn name_hash(&self, algorithm: ObjectIdentifier) -> Option<Vec<u8>> {
        let name: &Name = self.issuer.tbs_certificate().subject();
        hash(algorithm, &name.to_der().ok()?)
    }

    fn key_hash(&self, algorithm: ObjectIdentifier) -> Option<Vec<u8>> {
        hash(
            algorithm,
            self.issuer.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes(),
        )
    }
}

fn hash(algorithm: ObjectIdentifier, bytes: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match algorithm {
        ID_SHA_1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        ID_SHA_256 => &digest::SHA256,
        _ => return None,
    };
    Some(digest::digest(algorithm, bytes).as_ref().to_vec())
}

// RFC 6960 section 4.1.1; without signature, extensions and version, which is the first.

#[derive(Sequence)]
struct Request {
    tbs: TbsRequest,
}

#[derive(Sequence)]
struct TbsRequest {
    list: Vec<Single>,
}

#[derive(Sequence)]
struct Single {
    cert_id: CertId,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
struct CertId {
    hash_algorithm: AlgorithmIdentifierOwned,
    issuer_name_hash: OctetString,
    issuer_key_hash: OctetString,
    serial_number: SerialNumber,
}

// RFC 6960 section 4.2.1.

#[derive(Sequence)]
struct Response {
    status: Success,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    bytes: Option<ResponseBytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated)]
#[repr(u8)]
enum Success {
    Successful = 0,
    MalformedRequest = 1,
    InternalError = 2,
    TryLater = 3,
    SigRequired = 5,
    Unauthorized = 6,
}

impl Success {
    /// OpenSSL's.
    fn words(self) -> &'static str {
        match self {
            Success::Successful => "successful",
            Success::MalformedRequest => "malformedrequest",
            Success::InternalError => "internalerror",
            Success::TryLater => "trylater",
            Success::SigRequired => "sigrequired",
            Success::Unauthorized => "unauthorized",
        }
    }
}

#[derive(Sequence)]
struct ResponseBytes {
    kind: ObjectIdentifier,
    content: OctetString,
}

#[derive(Sequence)]
struct BasicResponse {
    /// [`ResponseData`], as it came: that is what is signed.
    data: Any,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    certificates: Option<Vec<Certificate>>,
}

#[derive(Sequence)]
struct ResponseData {
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    version: Option<u8>,
    /// Who signs: found by trying, so what it says does not matter.
    responder: Any,
    produced_at: GeneralizedTime,
    responses: Vec<SingleResponse>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    extensions: Option<Extensions>,
}

#[derive(Sequence)]
struct SingleResponse {
    cert_id: CertId,
    status: CertStatus,
    this_update: GeneralizedTime,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    next_update: Option<GeneralizedTime>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    extensions: Option<Extensions>,
}

#[derive(Choice)]
enum CertStatus {
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    Good(Null),
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Revoked(RevokedInfo),
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    Unknown(Null),
}

#[derive(Sequence)]
struct RevokedInfo {
    time: GeneralizedTime,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    reason: Option<Any>,
}

#[cfg(test)]
mod tests;

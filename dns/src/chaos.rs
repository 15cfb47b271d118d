//! Who and what this server is, by TXT records of class CHAOS: RFC 4892 and what BIND made usual.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use crate::lookup::Answer;
use crate::settings::Settings;
use crate::wire::Question;

/// The answer, for class CHAOS. `None`: REFUSED.
pub(crate) fn answer(settings: &Settings, question: &Question) -> Option<Answer> {
    let text = match &*question.key {
        b"\x02id\x06server\x00" | b"\x08hostname\x04bind\x00" => settings.identity.as_deref(),
        b"\x07version\x06server\x00" | b"\x07version\x04bind\x00" => settings.version.as_deref(),
        _ => None,
    }?;
    let is_text = matches!(
        RecordType::from(question.rtype),
        RecordType::TXT | RecordType::ANY
    );
    let data = RData::TXT(TXT::new(vec![text.to_owned()]));
    // what a server is called is true of this server alone, so nobody should keep it
    let mut record = Record::from_rdata(question.name.clone(), 0, data);
    record.dns_class = DNSClass::CH;
    is_text.then(|| Answer {
        rcode: ResponseCode::NoError,
        authoritative: true,
        answers: vec![record],
        authorities: Vec::new(),
        needed_glue: Vec::new(),
        glue: Vec::new(),
    })
}

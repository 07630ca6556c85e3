//! Where telephone numbers come from: a sandbox with numbers that exist only in fiction, or a service that speaks Twilio's API.

use crate::services::counted;
use crate::words::words;
use async_trait::async_trait;
use flowyte_core::Environment;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use zeroize::Zeroizing;

/// How long a carrier may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Numbers that the sandbox offers at most for one search.
const MOST_OFFERS: usize = 1_000;

/// A telephone number in E.164 form: `+`, a country code and the rest, 7 to 15 digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct E164(String);

impl E164 {
    /// The one spelling; everything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (7..=15).contains(&digits.len()) && !digits.starts_with('0');
        (plain && fits).then(|| Self(text.to_owned()))
    }

    /// With the `+` and without spaces: `+12025550123`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Country and type, where numbers like this one have a price here, and the digits after the country code.
    pub fn place(&self) -> Option<(Country, NumberType, &str)> {
        if let Some(national) = self.0.strip_prefix("+1").filter(|it| it.len() == 10) {
            let area = &national[..3];
            let kind = match area {
                "800" | "833" | "844" | "855" | "866" | "877" | "888" => NumberType::TollFree,
                _ => NumberType::Local,
            };
            let country = if CANADIAN.contains(&area) { Country::Canada } else { Country::UnitedStates };
            return Some((country, kind, national));
        }
        let national = self.0.strip_prefix("+44").filter(|it| it.len() == 10)?;
        let kind = match national.as_bytes() {
            [b'1' | b'2', ..] => NumberType::Local,
            [b'3', ..] => NumberType::National,
            [b'7', ..] => NumberType::Mobile,
            [b'8', b'0', ..] => NumberType::TollFree,
            _ => return None,
        };
        Some((Country::UnitedKingdom, kind, national))
    }
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Area codes of the North American plan that are Canada's.
const CANADIAN: &[&str] = &[
    "204", "226", "236", "249", "250", "263", "289", "306", "343", "354", "365", "367", "368", "382", "403",
    "416", "418", "428", "431", "437", "438", "450", "468", "474", "506", "514", "519", "548", "579", "581",
    "584", "587", "604", "613", "639", "647", "672", "683", "705", "709", "742", "753", "778", "780", "782",
    "807", "819", "825", "867", "873", "879", "902", "905", "942",
];

words! {
    /// A country whose numbers have a price here.
    Country {
        /// The United States, `US`.
        UnitedStates = "US",
        /// Canada, `CA`.
        Canada = "CA",
        /// The United Kingdom, `GB`.
        UnitedKingdom = "GB",
    }
}

words! {
    /// What kind of telephone number it is, as far as its digits tell.
    NumberType {
        /// A number of one place, with its area code.
        Local = "local",
        /// Free for whoever calls it.
        TollFree = "toll_free",
        /// A number of the whole country (in the United Kingdom, one that begins with 03).
        National = "national",
        /// A number of a mobile phone.
        Mobile = "mobile",
    }
}

/// What an organization pays, in credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Taken once, at the purchase.
    pub setup: i64,
    /// Taken each month, the first at the purchase.
    pub monthly: i64,
}

/// The price of a number.
pub const fn price(country: Country, kind: NumberType) -> Price {
    let monthly = match (country, kind) {
        (_, NumberType::TollFree) => 300,
        (Country::UnitedKingdom, NumberType::Mobile) => 250,
        _ => 150,
    };
    Price { setup: 100, monthly }
}

/// What telephone numbers are looked for; all that is given must fit.
#[derive(Clone, Debug)]
pub struct Search {
    /// In which country numbers are looked for.
    pub country: Country,
    /// The kind of number that is wanted.
    pub kind: NumberType,
    /// The first digits after the country code: an area code.
    pub area_code: Option<String>,
    /// Digits anywhere after the country code.
    pub contains: Option<String>,
    /// The first digits after the country code.
    pub starts_with: Option<String>,
    /// The last digits of the number.
    pub ends_with: Option<String>,
    /// Part of a place's name, whatever its case.
    pub locality: Option<String>,
    /// A state, province or the like by its code.
    pub administrative_area: Option<String>,
    /// What it must be able to do.
    pub features: Vec<String>,
    /// How many numbers are wanted at most.
    pub limit: u32,
}

impl Search {
    /// Whether an offer is what is looked for; carriers are not trusted to have heeded everything.
    fn takes(&self, offer: &Offer) -> bool {
        let Some((country, kind, national)) = offer.e164.place() else { return false };
        let same = |wanted: &Option<String>, found: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| {
                found.as_ref().is_some_and(|found| found.to_lowercase().contains(&wanted.to_lowercase()))
            })
        };
        // Toll-free numbers of North America belong to no country.
        let there = country == self.country
            || (kind == NumberType::TollFree
                && (country, self.country) == (Country::UnitedStates, Country::Canada));
        there
            && kind == self.kind
            && self.area_code.as_ref().is_none_or(|it| national.starts_with(it.as_str()))
            && self.contains.as_ref().is_none_or(|it| national.contains(it.as_str()))
            && self.starts_with.as_ref().is_none_or(|it| national.starts_with(it.as_str()))
            && self.ends_with.as_ref().is_none_or(|it| national.ends_with(it.as_str()))
            && same(&self.locality, &offer.locality)
            && same(&self.administrative_area, &offer.region)
            && self.features.iter().all(|it| offer.features.contains(it))
    }
}

/// A number that can be bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The number, as it is bought.
    pub e164: E164,
    /// As people of its country write it.
    pub formatted: String,
    /// The town; none where the carrier names none.
    pub locality: Option<String>,
    /// The state, province or the like.
    pub region: Option<String>,
    /// The rate center of the North American plan.
    pub rate_center: Option<String>,
    /// What it can do: `voice`, `sms`, `mms`, `fax`.
    pub features: Vec<String>,
    /// The kind of number that it is.
    pub kind: NumberType,
    /// What the organization pays for it, whatever the carrier asks.
    pub price: Price,
}

/// Why a carrier did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// It will not; asking again changes nothing.
    #[error("the carrier refuses: {0}")]
    Refused(String),
    /// It is away, busy or does not know us; asking again may help.
    #[error("the carrier can't be reached: {0}")]
    Away(String),
}

/// Somebody who sells telephone numbers.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Its name in answers and rows.
    fn name(&self) -> &'static str;

    /// Numbers that can be bought.
    async fn search(&self, wanted: &Search) -> Result<Vec<Offer>, CarrierError>;

    /// One number, where it can be bought.
    async fn offer(&self, e164: &E164) -> Result<Option<Offer>, CarrierError>;

    /// Buys under a label that is this purchase's own, and looks for that label first: buying again after a lost answer buys once.
    /// Answers what the carrier calls the number.
    async fn buy(&self, e164: &E164, label: &str) -> Result<String, CarrierError>;

    /// What the carrier calls a number that is in the account already and labelled with its owner's id; `None` where there is none.
    async fn owned(&self, e164: &E164, owner: &str) -> Result<Option<String>, CarrierError>;

    /// Gives a number back. One that is gone already is given back.
    async fn release(&self, carrier_id: &str) -> Result<(), CarrierError>;
}

/// Sells numbers that exist only in fiction: 555-0100 to 555-0199 in any area code of the United States and Canada, and the ranges that
/// Ofcom keeps for drama. Nobody can be called at any of them.
pub struct Sandbox;

/// Ofcom's ranges for television and radio drama: seven digits after `+44`, with three more to each, and where they are.
const DRAMA: [(&str, Option<&str>); 19] = [
    ("1134960", Some("Leeds")),
    ("1144960", Some("Sheffield")),
    ("1154960", Some("Nottingham")),
    ("1164960", Some("Leicester")),
    ("1174960", Some("Bristol")),
    ("1184960", Some("Reading")),
    ("1214960", Some("Birmingham")),
    ("1314960", Some("Edinburgh")),
    ("1414960", Some("Glasgow")),
    ("1514960", Some("Liverpool")),
    ("1614960", Some("Manchester")),
    ("1632960", None),
    ("1914980", Some("Tyneside")),
    ("2079460", Some("London")),
    ("2896496", Some("Northern Ireland")),
    ("2920180", Some("Cardiff")),
    ("3069990", None),
    ("7700900", None),
    ("8081570", None),
];

/// Area codes that the sandbox offers where none is asked for.
const SHOWN_AREAS: [(Country, &[&str]); 2] = [
    (Country::UnitedStates, &["202", "212", "312", "415", "617"]),
    (Country::Canada, &["416", "514", "604"]),
];

impl Sandbox {
    /// The offer of a number, where it is fictional.
    fn fictional(e164: E164) -> Option<Offer> {
        let (country, kind, national) = e164.place()?;
        let mut locality = None;
        let formatted = match country {
            Country::UnitedStates | Country::Canada => {
                let (area, rest) = national.split_at(3);
                // Codes begin with 2 to 9, and N11 names a service.
                let place =
                    kind == NumberType::Local && area >= "200" && !area.ends_with("11") && area != "900";
                if !place || !rest.starts_with("55501") {
                    return None;
                }
                format!("({area}) {}-{}", &rest[..3], &rest[3..])
            }
            Country::UnitedKingdom => {
                let (_, place) = DRAMA.iter().find(|(range, _)| national.starts_with(range))?;
                locality = place.map(str::to_owned);
                format!("+44 {national}")
            }
        };
        Some(Offer {
            formatted,
            locality,
            region: None,
            rate_center: None,
            features: vec!["voice".into(), "sms".into()],
            kind,
            price: price(country, kind),
            e164,
        })
    }

    fn candidates(wanted: &Search) -> Vec<String> {
        match wanted.country {
            Country::UnitedStates | Country::Canada => {
                let shown = SHOWN_AREAS.iter().find(|(country, _)| *country == wanted.country);
                let asked =
                    wanted.area_code.as_deref().or(wanted.starts_with.as_deref()).and_then(|it| it.get(..3));
                let areas =
                    asked.map_or_else(|| shown.map_or(&[][..], |(_, areas)| areas).to_vec(), |it| vec![it]);
                areas
                    .iter()
                    .flat_map(|area| (100..200).map(move |last| format!("+1{area}5550{last}")))
                    .collect()
            }
            Country::UnitedKingdom => DRAMA
                .iter()
                .flat_map(|(range, _)| (0..1_000).map(move |last| format!("+44{range}{last:03}")))
                .collect(),
        }
    }
}

#[async_trait]
impl Carrier for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn search(&self, wanted: &Search) -> Result<Vec<Offer>, CarrierError> {
        let offers = Self::candidates(wanted).into_iter().filter_map(|it| Self::fictional(E164::parse(&it)?));
        Ok(offers.filter(|offer| wanted.takes(offer)).take(MOST_OFFERS).collect())
    }

    async fn offer(&self, e164: &E164) -> Result<Option<Offer>, CarrierError> {
        Ok(Self::fictional(e164.clone()))
    }

    async fn buy(&self, e164: &E164, _: &str) -> Result<String, CarrierError> {
        match Self::fictional(e164.clone()) {
            Some(_) => Ok(format!("sandbox_{e164}")),
            None => Err(CarrierError::Refused("the sandbox has fictional numbers only".into())),
        }
    }

    async fn owned(&self, e164: &E164, _: &str) -> Result<Option<String>, CarrierError> {
        Ok(Self::fictional(e164.clone()).map(|it| format!("sandbox_{}", it.e164)))
    }

    async fn release(&self, _: &str) -> Result<(), CarrierError> {
        Ok(())
    }
}

/// Where a service that speaks Twilio's API is, and what opens it.
pub struct TwilioSettings {
    /// `https://api.twilio.com`, or another that speaks the same.
    pub url: String,
    /// The id of the operator's account at the service, `AC…`.
    pub account: String,
    /// What opens the account. Never printed.
    pub token: Zeroizing<String>,
}

/// A service that speaks Twilio's API (2010-04-01): available and incoming phone numbers.
pub struct Twilio {
    settings: TwilioSettings,
    client: Client,
}

#[derive(Deserialize)]
struct Available {
    available_phone_numbers: Vec<AvailableNumber>,
}

#[derive(Deserialize)]
struct AvailableNumber {
    phone_number: String,
    friendly_name: String,
    locality: Option<String>,
    region: Option<String>,
    rate_center: Option<String>,
    #[serde(default)]
    capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    voice: bool,
    #[serde(alias = "SMS")]
    sms: bool,
    #[serde(alias = "MMS")]
    mms: bool,
    fax: bool,
}

#[derive(Deserialize)]
struct IncomingNumbers {
    incoming_phone_numbers: Vec<IncomingNumber>,
}

#[derive(Deserialize)]
struct IncomingNumber {
    sid: String,
    phone_number: String,
    friendly_name: String,
}

impl AvailableNumber {
    fn offer(self) -> Option<Offer> {
        let e164 = E164::parse(&self.phone_number)?;
        let (country, kind, _) = e164.place()?;
        let can = self.capabilities;
        let features = [("voice", can.voice), ("sms", can.sms), ("mms", can.mms), ("fax", can.fax)];
        Some(Offer {
            e164,
            formatted: self.friendly_name,
            locality: self.locality,
            region: self.region,
            rate_center: self.rate_center,
            features: features.iter().filter(|(_, it)| *it).map(|(name, _)| (*name).to_owned()).collect(),
            kind,
            price: price(country, kind),
        })
    }
}

impl Twilio {
    /// A client of that service.
    pub fn new(settings: TwilioSettings) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("flowyte")
            .build()?;
        Ok(Self { settings, client })
    }

    fn request(&self, method: Method, resource: &str) -> RequestBuilder {
        let TwilioSettings { url, account, token } = &self.settings;
        self.client
            .request(method, format!("{url}/2010-04-01/Accounts/{account}/{resource}.json"))
            .basic_auth(account, Some(token.as_str()))
    }

    /// Sends a request; the status and the body of what was answered, where that says anything about the number.
    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), CarrierError> {
        counted("carrier", Self::answer(request)).await
    }

    async fn answer(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), CarrierError> {
        // The text of an error may name the address that was asked, never the token.
        let away = |error: reqwest::Error| CarrierError::Away(error.without_url().to_string());
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        let body = response.bytes().await.map_err(away)?;
        match status {
            it if it.is_success() => Ok((status, body.to_vec())),
            StatusCode::NOT_FOUND => Ok((status, Vec::new())),
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
                let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                let message = said["message"].as_str().unwrap_or_default();
                Err(CarrierError::Refused(format!("{} {message}", said["code"]).trim().to_owned()))
            }
            _ => Err(CarrierError::Away(format!("it answers {status}"))),
        }
    }

    /// What a request answers; `None` for a 404.
    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Option<T>, CarrierError> {
        let (status, body) = self.send(request).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| CarrierError::Away(format!("its answer can't be read: {error}")))
    }

    async fn available(
        &self,
        country: Country,
        kind: NumberType,
        query: &[(&str, String)],
    ) -> Result<Vec<Offer>, CarrierError> {
        let kind = match kind {
            NumberType::Local => "Local",
            NumberType::TollFree => "TollFree",
            NumberType::National => "National",
            NumberType::Mobile => "Mobile",
        };
        let resource = format!("AvailablePhoneNumbers/{}/{kind}", country.as_str());
        // A country without numbers of a kind is a 404.
        let found: Option<Available> = self.ask(self.request(Method::GET, &resource).query(query)).await?;
        let found = found.map(|it| it.available_phone_numbers).unwrap_or_default();
        Ok(found.into_iter().filter_map(AvailableNumber::offer).collect())
    }

    /// The number in the account, where it is there.
    async fn incoming(&self, e164: &E164) -> Result<Option<IncomingNumber>, CarrierError> {
        let request =
            self.request(Method::GET, "IncomingPhoneNumbers").query(&[("PhoneNumber", e164.as_str())]);
        let found: Option<IncomingNumbers> = self.ask(request).await?;
        let found = found.map(|it| it.incoming_phone_numbers).unwrap_or_default();
        // The filter of the service takes parts of numbers too.
        Ok(found.into_iter().find(|it| it.phone_number == e164.as_str()))
    }
}

#[async_trait]
impl Carrier for Twilio {
    fn name(&self) -> &'static str {
        "twilio"
    }

    async fn search(&self, wanted: &Search) -> Result<Vec<Offer>, CarrierError> {
        // More than are wanted, since some are taken here or are not what was asked for.
        let mut query = vec![("PageSize", (wanted.limit * 2).clamp(20, 100).to_string())];
        let texts = [
            ("AreaCode", wanted.area_code.as_ref()),
            (
                "Contains",
                wanted.contains.as_ref().or(wanted.starts_with.as_ref()).or(wanted.ends_with.as_ref()),
            ),
            ("InLocality", wanted.locality.as_ref()),
            ("InRegion", wanted.administrative_area.as_ref()),
        ];
        query.extend(texts.into_iter().filter_map(|(name, text)| Some((name, text?.clone()))));
        for (feature, name) in
            [("voice", "VoiceEnabled"), ("sms", "SmsEnabled"), ("mms", "MmsEnabled"), ("fax", "FaxEnabled")]
        {
            if wanted.features.iter().any(|it| it == feature) {
                query.push((name, "true".into()));
            }
        }
        let mut offers = self.available(wanted.country, wanted.kind, &query).await?;
        offers.retain(|offer| wanted.takes(offer));
        Ok(offers)
    }

    async fn offer(&self, e164: &E164) -> Result<Option<Offer>, CarrierError> {
        let Some((country, kind, national)) = e164.place() else { return Ok(None) };
        let offers = self.available(country, kind, &[("Contains", national.to_owned())]).await?;
        Ok(offers.into_iter().find(|it| it.e164 == *e164))
    }

    async fn buy(&self, e164: &E164, label: &str) -> Result<String, CarrierError> {
        if let Some(there) = self.incoming(e164).await? {
            return match there.friendly_name == label {
                true => Ok(there.sid), // Bought by this purchase, whose answer did not come.
                false => Err(CarrierError::Refused("the number is somebody else's in the account".into())),
            };
        }
        let form = [("PhoneNumber", e164.as_str()), ("FriendlyName", label)];
        let request = self.request(Method::POST, "IncomingPhoneNumbers").form(&form);
        match self.ask::<IncomingNumber>(request).await {
            Ok(Some(bought)) => Ok(bought.sid),
            Ok(None) => Err(CarrierError::Away("it does not know this account".into())),
            // An earlier request of this purchase may have been on its way until now.
            Err(CarrierError::Refused(why)) => {
                let mine = self.incoming(e164).await?.filter(|it| it.friendly_name == label);
                mine.map(|it| it.sid).ok_or(CarrierError::Refused(why))
            }
            Err(away) => Err(away),
        }
    }

    async fn owned(&self, e164: &E164, owner: &str) -> Result<Option<String>, CarrierError> {
        let found = self.incoming(e164).await?;
        Ok(found.filter(|it| it.friendly_name == owner).map(|it| it.sid))
    }

    async fn release(&self, carrier_id: &str) -> Result<(), CarrierError> {
        // A 404 says that it is gone already.
        let resource = format!("IncomingPhoneNumbers/{carrier_id}");
        self.send(self.request(Method::DELETE, &resource)).await.map(drop)
    }
}

/// How many numbers can be worked on at once.
const DESKS: usize = 16;

/// Who sells numbers in each environment: real ones are never bought by a test credential.
pub struct Carriers {
    live: Box<dyn Carrier>,
    test: Sandbox,
    desks: [Mutex<()>; DESKS],
}

impl Carriers {
    /// `live` sells to live credentials.
    pub fn new(live: Box<dyn Carrier>) -> Self {
        Self { live, test: Sandbox, desks: std::array::from_fn(|_| Mutex::new(())) }
    }

    /// The carrier of an environment.
    pub fn of(&self, environment: Environment) -> &dyn Carrier {
        match environment {
            Environment::Live => &*self.live,
            Environment::Test => &self.test,
        }
    }

    /// Waits until nobody in this process asks the carrier about a number. One process serves from one database, so this is enough.
    pub(crate) async fn desk(&self, number: &[u8; 16]) -> MutexGuard<'_, ()> {
        self.desks[usize::from(number[15]) % DESKS].lock().await
    }

    /// The same without waiting; `None` while somebody asks.
    pub(crate) fn free_desk(&self, number: &[u8; 16]) -> Option<MutexGuard<'_, ()>> {
        self.desks[usize::from(number[15]) % DESKS].try_lock().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_one_spelling() {
        for text in ["+12025550123", "+442079460000", "+1234567"] {
            assert_eq!(E164::parse(text).map(|it| it.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            "+",
            "12025550123",
            "+0123456789",
            "+1 202 555 0123",
            "+1202555012a",
            "+123456",
            "+1234567890123456",
            "+１2025550123",
        ] {
            assert_eq!(E164::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_sandbox_has_nothing_but_fiction() {
        let fictional = |text: &str| E164::parse(text).and_then(Sandbox::fictional).is_some();
        for text in ["+12025550100", "+14165550199", "+442079460000", "+447700900999", "+448081570123"] {
            assert!(fictional(text), "{text}");
        }
        for text in [
            "+12025550099",
            "+12025550200",
            "+18005550199",
            "+19115550100",
            "+11235550100",
            "+442079461000",
            "+447700901000",
            "+4915112345678",
        ] {
            assert!(!fictional(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_inverts_display_and_takes_nothing_else(text in "\\+?[0-9a-z ]{0,18}") {
            if let Some(number) = E164::parse(&text) {
                prop_assert_eq!(number.to_string(), text);
                // Whatever the number, looking at its parts is safe.
                let _ = Sandbox::fictional(number);
            }
        }

        #[test]
        fn whatever_is_searched_only_fiction_is_found(area in "[0-9]{0,5}", contains in "[0-9]{1,3}", gb: bool) {
            let country = if gb { Country::UnitedKingdom } else { Country::UnitedStates };
            let wanted = Search {
                country,
                kind: NumberType::Local,
                area_code: Some(area),
                contains: Some(contains.clone()),
                starts_with: None,
                ends_with: None,
                locality: None,
                administrative_area: None,
                features: vec!["voice".into()],
                limit: 20,
            };
            for candidate in Sandbox::candidates(&wanted) {
                if let Some(offer) = E164::parse(&candidate).and_then(Sandbox::fictional) {
                    prop_assert!(candidate.contains("5550") || gb);
                    prop_assert!(!wanted.takes(&offer) || candidate.contains(&contains));
                }
            }
        }
    }
}

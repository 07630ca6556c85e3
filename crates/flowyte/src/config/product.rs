//! What the settings of the product come to.

use super::Given;
use flowyte_product::settings::{Carrier, Payment, Product};

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Product, Vec<String>> {
        let mut given = Given::default();
        given.variables(
            variables.iter().map(|(name, value)| (format!("FLOWYTE_{name}").into(), (*value).into())),
        );
        given.finish().map(|config| config.product)
    }

    #[test]
    fn a_carrier_has_all_of_its_settings_or_none() {
        assert_eq!(read(&[]).ok().unwrap().carrier, Carrier::Sandbox);
        let missing = read(&[("CARRIER", "twilio"), ("CARRIER_ACCOUNT", "../AC1")]).err().unwrap();
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(read(&[("CARRIER_ACCOUNT", "AC1")]).is_err());
        let whole = read(&[("CARRIER", "twilio"), ("CARRIER_ACCOUNT", "AC1"), ("CARRIER_TOKEN_FILE", "t")]);
        let Carrier::Twilio { url, .. } = whole.ok().unwrap().carrier else { panic!("not twilio") };
        assert_eq!(url, "https://api.twilio.com");
    }

    #[test]
    fn a_payment_service_has_all_of_its_settings_or_none() {
        assert_eq!(read(&[]).ok().unwrap().payment, Payment::Sandbox);
        let missing = read(&[("PAYMENT", "stripe"), ("PAYMENT_URL", "http://pay.example")]).err().unwrap();
        assert_eq!(missing.len(), 3, "{missing:?}");
        let leftover = read(&[("PAYMENT_KEY_FILE", "x")]).err().unwrap();
        assert!(leftover[0].contains("has no effect unless payment is stripe"), "{leftover:?}");
        let whole = read(&[
            ("PAYMENT", "stripe"),
            ("PAYMENT_URL", "http://127.0.0.1:9/"),
            ("PAYMENT_KEY_FILE", "k"),
            ("PAYMENT_WEBHOOK_SECRET_FILE", "w"),
        ]);
        let Payment::Stripe { url, .. } = whole.ok().unwrap().payment else { panic!("not stripe") };
        assert_eq!(url, "http://127.0.0.1:9");
    }

    #[test]
    fn a_model_has_a_url_and_a_name_or_nothing() {
        assert_eq!(read(&[]).ok().unwrap().model, None);
        let wrong = |settings: &[(&str, &str)]| read(settings).err().unwrap();
        assert!(wrong(&[("MODEL_NAME", "x")])[0].contains("has no effect unless model_url is given"));
        assert!(wrong(&[("MODEL_URL", "https://x.example/v1")])[0].contains("model_name must be given"));
        assert!(wrong(&[("MODEL_URL", "http://x.example"), ("MODEL_NAME", "x")])[0].contains("https"));
        let model = read(&[("MODEL_URL", "http://localhost:11434/v1/"), ("MODEL_NAME", "small")]);
        let model = model.ok().unwrap().model.unwrap();
        assert_eq!((model.url.as_str(), model.key_file), ("http://localhost:11434/v1", None));
        assert_eq!((model.timeout_seconds, model.idle_seconds), (120, 30));
    }
}

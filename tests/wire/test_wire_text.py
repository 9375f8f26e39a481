"""What is told from text at a glance: its script, its possible languages, and about how many tokens it is."""

import pytest

from gateway.wire.text import LANGUAGES, SAMPLE_CHARS, Estimator, Script, languages_of, script_of

KNOWN = frozenset({"en", "de", "fr", "es", "it", "zh", "ru", "sr", "other"})

TEXTS = {
    "en": (
        Script.LATIN,
        62,
        "Dear Ms Miller, thank you for your letter of 3 March. We have looked into the matter and can "
        "confirm that the invoice was sent to you in error. Please disregard it; the amount has been "
        "credited to your account. We apologise for the inconvenience and remain at your disposal for "
        "any questions.",
    ),
    "de": (
        Script.LATIN,
        82,
        "Sehr geehrte Frau Müller, vielen Dank für Ihr Schreiben vom 3. März. Wir haben den Vorgang "
        "geprüft und können bestätigen, dass Ihnen die Rechnung irrtümlich zugesandt wurde. Bitte "
        "betrachten Sie sie als gegenstandslos; der Betrag wurde Ihrem Konto gutgeschrieben. Wir bitten "
        "die Unannehmlichkeiten zu entschuldigen.",
    ),
    "fr": (
        Script.LATIN,
        70,
        "Chère Madame, nous vous remercions de votre lettre du 3 mars. Après vérification, nous "
        "confirmons que la facture vous a été envoyée par erreur. Veuillez ne pas en tenir compte ; le "
        "montant a été crédité sur votre compte. Nous vous prions d'excuser ce désagrément.",
    ),
    "zh": (
        Script.HAN,
        86,
        "尊敬的王女士，感谢您三月三日的来信。我们已经核实了有关情况，确认该账单系误发。请您不必理会"
        "，款项已退回您的账户。对于由此给您带来的不便，我们深表歉意。如有任何疑问，请随时与我们联系。",
    ),
    "ja": (
        Script.KANA,
        76,
        "山田様、三月三日付のお手紙をいただき、ありがとうございます。"
        "調査の結果、請求書は誤って送付されたものであることを確認いた"
        "しました。お支払いの必要はございません。ご迷惑をおかけしましたことを深くお詫び申し上げます。",
    ),
    "ko": (
        Script.HANGUL,
        64,
        "김 선생님께, 3월 3일에 보내주신 편지에 감사드립니다. 확인한 결과 청구서가 잘못 발송된 "
        "것으로 밝혀졌습니다. 해당 금액은 고객님의 계좌로 환불되었습니다. 불편을 끼쳐 "
        "드려 대단히 죄송합니다.",
    ),
    "ru": (
        Script.CYRILLIC,
        79,
        "Уважаемая госпожа Иванова, благодарим Вас за письмо от 3 марта. Мы проверили обстоятельства и "
        "подтверждаем, что счёт был отправлен Вам по ошибке. Пожалуйста, не принимайте его во внимание; "
        "сумма возвращена на Ваш счёт. Приносим извинения за неудобства.",
    ),
    "el": (
        Script.GREEK,
        80,
        "Αγαπητή κυρία, σας ευχαριστούμε για την επιστολή σας της 3ης Μαρτίου. Ελέγξαμε το θέμα και "
        "επιβεβαιώνουμε ότι το τιμολόγιο σας εστάλη εκ παραδρομής. Το ποσό έχει πιστωθεί στον "
        "λογαριασμό σας.",
    ),
    "ar": (
        Script.ARABIC,
        65,
        "السيدة المحترمة، نشكركم على رسالتكم المؤرخة في الثالث من مارس. لقد تحققنا من الأمر ونؤكد أن "
        "الفاتورة أرسلت إليكم عن طريق الخطأ. نرجو تجاهلها، وقد أعيد المبلغ إلى حسابكم. نعتذر عن الإزعاج.",
    ),
    "he": (
        Script.HEBREW,
        70,
        "גברת כהן הנכבדה, תודה על מכתבך מיום 3 במרץ. בדקנו את העניין ואנו מאשרים כי החשבונית נשלחה אליך "
        "בטעות. הסכום הוחזר לחשבונך. אנו מתנצלים על אי הנוחות.",
    ),
    "hi": (
        Script.DEVANAGARI,
        75,
        "प्रिय महोदया, 3 मार्च के आपके पत्र के लिए धन्यवाद। हमने मामले की जाँच की है और पुष्टि करते हैं "
        "कि बिल आपको गलती से भेजा गया था। राशि आपके खाते में जमा कर दी गई है। असुविधा के लिए हम क्षमा "
        "चाहते हैं।",
    ),
    "th": (
        Script.THAI,
        96,
        "เรียนคุณสมศรี ขอบคุณสำหรับจดหมายของท่านลงวันที่ 3 มีนาคม "
        "เราได้ตรวจสอบแล้วและขอยืนยันว่าใบแจ้งหนี้ถูกส่งถึงท่านโดยผิดพลาด "
        "จำนวนเงินได้คืนเข้าบัญชีของท่านแล้ว ขออภัยในความไม่สะดวก",
    ),
    "code": (
        Script.LATIN,
        73,
        "def settle(usage: Usage, price: Price) -> Decimal:\n"
        '    """USD for `usage`, exact."""\n'
        "    return (price.input * usage.uncached + price.output * usage.output) / MILLION\n\n\n"
        'if __name__ == "__main__":\n'
        "    print(settle(Usage(1, 2), Price(3, 4)))\n",
    ),
}
"""The same letter in many languages, and some Python: its script, and the tokens that Tekken makes of it, Mistral's tokeniser since
Nemo (counted once with `tekken_240911.json` of mistral-common 1.13.1, without a chat template)."""


@pytest.mark.parametrize("name", TEXTS)
def test_the_script_and_about_how_many_tokens(name: str) -> None:
    script, tokens, text = TEXTS[name]
    assert script_of(text) is script
    assert tokens / 2 < Estimator().tokens(script, len(text)) < tokens * 2


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", Script.LATIN),
        ("12345 !?", Script.LATIN),
        ("😀🎉", Script.OTHER),
        ("请帮我查一下 Residency Gateway 的用法", Script.HAN),  # an English name does not make it English
        ("Please translate “你好” into German, and explain to me how it is pronounced.", Script.LATIN),
        ("東京大学", Script.HAN),  # Japanese without any kana can't be told from Chinese
        ("東京大学で勉強しています", Script.KANA),
        ("Müller schrieb an Иванова", Script.LATIN),
        ("Письмо от Müller", Script.CYRILLIC),
    ],
)
def test_mixed_text_is_what_most_of_it_is(text: str, script: Script) -> None:
    assert script_of(text) is script


def test_a_long_text_is_judged_by_its_beginning_and_its_middle() -> None:
    long = 200 * SAMPLE_CHARS
    assert script_of("é" + "a" * long) is Script.LATIN
    assert script_of("Übersetze: " + "你" * long) is Script.HAN


def test_a_script_says_which_languages_are_possible_and_never_none() -> None:
    assert languages_of(Script.HAN, KNOWN) == {"zh"}
    assert languages_of(Script.LATIN, KNOWN) == {"en", "de", "fr", "es", "it", "sr", "other"}
    # Cyrillic may be a language that the policy does not know: it is surely Russian only where there is no other
    assert languages_of(Script.CYRILLIC, KNOWN) == {"ru", "sr", "other"}
    assert languages_of(Script.THAI, KNOWN) == {"other"}
    assert languages_of(Script.LATIN, frozenset({"zh"})) == {"zh"}
    assert languages_of(Script.OTHER, KNOWN)
    assert all(languages_of(script, KNOWN) for script in LANGUAGES)


def test_reports_teach_the_estimator_slowly_and_within_bounds() -> None:
    estimator = Estimator()
    before = estimator.tokens(Script.LATIN, 40_000)
    estimator.learn(Script.LATIN, before, 5 * before)  # one odd report
    assert before < estimator.tokens(Script.LATIN, 40_000) < 1.1 * before
    for _ in range(300):  # a tokeniser that makes half as many again
        estimator.learn(Script.LATIN, estimator.tokens(Script.LATIN, 40_000), int(1.5 * before))
    assert estimator.tokens(Script.LATIN, 40_000) == pytest.approx(1.5 * before, rel=0.05)
    for _ in range(300):  # nonsense
        estimator.learn(Script.LATIN, estimator.tokens(Script.LATIN, 40_000), 10_000_000)
    assert estimator.tokens(Script.LATIN, 40_000) <= 2 * before
    assert estimator.tokens(Script.HAN, 1_400) == 1_001  # scripts learn apart
    estimator.learn(Script.HAN, 40, 400)  # mostly template
    assert estimator.tokens(Script.HAN, 1_400) == 1_001

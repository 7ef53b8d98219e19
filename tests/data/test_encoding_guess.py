"""The encodings of texts of many languages: the guess is right, and where few letters decide the others are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.data.tables import read_table
from potstill.errors import BadData

# Encodings of a language, and two sentences as customers write them.
LANGUAGES: dict[str, tuple[str, str, str]] = {
    "German": (
        "cp1252",
        "Seit Mai warte ich auf die Rückerstattung über zwölf Euro.",
        "Die Tür schließt nicht mehr, ärgerlich.",
    ),
    "French": (
        "cp1252 mac_roman",
        "Le colis a été livré à une autre adresse, où est-il ?",
        "Très bon accueil, ça marche, là-bas aussi, hôtel agréable.",
    ),
    "Spanish": (
        "cp1252",
        "Todavía no recibí la devolución, ¿cuándo llegará?",
        "El niño rompió la caja ayer, qué lástima.",
    ),
    "Polish": (
        "cp1250 iso8859_2",
        "Kurier zostawił paczkę u sąsiada, choć byłem w domu.",
        "Gdzie są moje pieniądze? Czekam już dwa tygodnie, to śmieszne.",
    ),
    "Czech": (
        "cp1250 iso8859_2",
        "Kde jsou mé peníze? Čekám už dva týdny, je to směšné.",
        "Řidič nechal zásilku u sousedů, ačkoli jsem byl doma.",
    ),
    "Hungarian": (
        "cp1250",
        "Hol van a pénzem? Már két hete várok, ez nevetséges, kérem intézzék el gyorsan.",
        "A futár a szomszédnál hagyta az előfizetői dobozt, bár itthon voltam, és fűtöttem.",
    ),
    "Greek": (
        "cp1253 iso8859_7",
        "Πού είναι τα λεφτά μου; Περιμένω δύο εβδομάδες.",
        "Ο οδηγός άφησε το πακέτο στον γείτονα.",
    ),
    "Russian": (
        "cp1251 koi8_r cp866",
        "Где мои деньги? Я жду уже две недели, это смешно.",
        "Курьер оставил коробку у соседа, хотя я был дома.",
    ),
    "Ukrainian": (
        "cp1251 koi8_u",
        "Де мої гроші? Я чекаю вже два тижні, це смішно.",
        "Кур'єр залишив коробку в сусіда, хоча я був удома.",
    ),
    "Turkish": (
        "cp1254",
        "Param nerede? İki haftadır bekliyorum, bu çok gülünç.",
        "Kurye kutuyu komşuya bırakmış, oysa ben evdeydim, şaşırdım.",
    ),
    "Hebrew": (
        "cp1255",
        "איפה הכסף שלי? אני מחכה כבר שבועיים.",
        "השליח השאיר את החבילה אצל השכן.",
    ),
    "Arabic": (
        "cp1256",
        "أين أموالي؟ أنتظر منذ أسبوعين وهذا مضحك.",
        "ترك السائق الطرد عند الجيران رغم أنني كنت في البيت.",
    ),
    "Korean": (
        "cp949 euc_kr",
        "제 돈은 어디에 있나요? 벌써 두 주째 기다리고 있어요.",
        "기사님이 상자를 이웃집에 두고 갔습니다.",
    ),
    "Japanese": (
        "shift_jis euc_jp",
        "私のお金はどこですか。もう二週間も待っています。",
        "配達員が箱を隣の家に置いていきました。",
    ),
    "Chinese": (
        "gb18030",
        "我的钱在哪里?我已经等了两个星期。",
        "快递员把箱子放在邻居家了,可是我在家。",
    ),
    "Taiwanese": (
        "big5",
        "我的錢在哪裡?我已經等了兩個星期。",
        "快遞員把箱子放在鄰居家了,可是我在家。",
    ),
}
CASES = [
    (language, name, n) for language, (names, *_) in LANGUAGES.items() for name in names.split() for n in (1, 2, 60)
]


def write(folder: Path, language: str, encoding: str, n: int) -> Path:
    sentences = LANGUAGES[language][1:]
    lines = [f'"{sentences[i % len(sentences)]}",{"ab"[i % 2]}' for i in range(n)]
    path = folder / "a.csv"
    path.write_bytes("\n".join(["text,label", *lines, ""]).encode(encoding))
    return path


@pytest.mark.parametrize(("language", "encoding", "n"), CASES)
def test_the_encoding_of_a_language_is_named_and_reads_the_texts(
    tmp_path: Path, language: str, encoding: str, n: int
) -> None:
    path = write(tmp_path, language, encoding, n)
    with pytest.raises(BadData) as caught:
        read_table(path)
    named = caught.value.hint.partition("--encoding ")[2].split()[0]
    assert read_table(path, encoding=named).column("text")[0] == LANGUAGES[language][1]
    assert LANGUAGES[language][1][:20] in caught.value.message


@pytest.mark.parametrize("text", ["naïve", "déjà", "Zoë", "œuf", "5 €", "it’s “late”"])
def test_where_few_letters_decide_the_others_are_named_with_what_they_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"text,label\n{text},a\n".encode("cp1252"))
    with pytest.raises(BadData) as caught:
        read_table(path)
    assert "--encoding cp1252" in caught.value.hint
    assert f"{text},a" in caught.value.message
    others = caught.value.hint.partition("few letters decide, and ")[2].partition(" would")[0].split(", ")
    for other in filter(None, others):
        assert len(read_table(path, encoding=other)) == 1


def test_a_line_that_is_not_in_the_named_encoding_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + "un café très doux,y\n".encode("cp1252") * 3000 + b"odd \x81 byte,y\n")
    with pytest.raises(BadData) as caught:
        read_table(path)
    assert "--encoding cp1252" in caught.value.hint
    with pytest.raises(BadData, match="1 bad row: line 3,002 has bytes that are not CP1252"):
        read_table(path, encoding="cp1252")
    assert (
        len(read_table(path, encoding="cp1252", on_bad="skip")),
        read_table(path, encoding="cp1252", on_bad="skip").skipped,
    ) == (3000, 1)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("DIE TÜR IST ÖFTER ÄRGERLICH", "cp1252"),
        ("ПОСЫЛКА НЕ ПРИШЛА", "cp1251"),
        ("Die Tür schließt nicht, schöne Größe", "cp850"),
        ("พัสดุยังไม่ถึง", "cp874"),
        ("źródło", "cp1250"),
    ],
)
def test_capitals_headers_and_rare_encodings_are_guessed(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(("text;label\n" + f"{text};a\n" * 12).encode(encoding))
    with pytest.raises(BadData) as caught:
        read_table(path)
    named = caught.value.hint.rpartition("--encoding ")[2]
    assert read_table(path, encoding=named).column("text")[0] == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "iso2022_jp"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_bytes_that_are_valid_utf8_and_show_another_encoding_are_refused_with_it(
    tmp_path: Path, encoding: str, suffix: str
) -> None:
    text = "荷物が届いていません" if encoding == "iso2022_jp" else "the parcel is late"
    lines = {"csv": f"text,label\n{text},a\n", "jsonl": f'{{"text": "{text}"}}\n', "txt": f"{text}\n"}[suffix]
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(lines.encode(encoding))
    with pytest.raises(BadData) as caught:
        read_table(path)
    named = caught.value.hint.rpartition("--encoding ")[2]
    assert named == encoding
    assert read_table(path, encoding=named).column("text") == [text]

"""Student models: trained on texts and soft targets, then exported to predict on a CPU.

A kind is one file and one line of `REGISTRY`.
"""

from __future__ import annotations

from potstill.registry import Registry

REGISTRY = Registry(
    "student",
    {
        "linear": "potstill.students.linear:LinearStudent",
        "static": "potstill.students.static:StaticStudent",
        "encoder": "potstill.students.encoder:EncoderStudent",
        "cloze": "potstill.students.cloze:ClozeStudent",
        "decoder": "potstill.students.decoder:DecoderStudent",
        "tagger": "potstill.students.tagger:TaggerStudent",
        "causal": "potstill.students.causal:CausalStudent",
        "seq2seq": "potstill.students.seq2seq:Seq2SeqStudent",
    },
)
DEFAULT_STUDENT = "encoder"  # of a run that names none
BASELINE_STUDENT = "linear"  # needs no weights and trains in moments
LARGE_STUDENT = "encoder:gte-small"  # of a model that is trained first and then teaches
FORM_STUDENTS = {"entities": "tagger", "free": "causal"}  # of a run that names none, by the form of its answers
LANGUAGE_MODEL_STUDENT = "cloze"  # has a language-model head
FINE_TUNED_STUDENTS = {"encoder": "encoder", "static": "static"}  # kind of weights -> the student that fine-tunes them
WRITING_STUDENTS = {"causal": "causal", "seq2seq": "seq2seq"}  # kind of weights -> the student that writes with them
HEADED_LM_STUDENT = "decoder"  # fine-tunes a causal language model under a new head

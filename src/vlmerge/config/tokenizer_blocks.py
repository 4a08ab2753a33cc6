"""A recipe's `tokenizer:`: which vocabulary the result has, and where rows come from that a model lacks. mergekit's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from vlmerge.config.fields import Block, Model, Text, Whole, complaint, misfit
from vlmerge.config.model_ref import ModelRef


class TokenRow(Block):
    """One row of one model: that of a token, or by number."""

    kind: Literal["model_token"]
    model: Model
    token: Text | None = None
    token_id: Annotated[Whole, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> TokenRow:
        if (self.token is None) == (self.token_id is None):
            found = "both" if self.token is not None else "neither"
            raise complaint("which row is meant?", expected="`token` or `token_id`", found=found, remedy="keep one of them")
        return self


class ZeroRow(Block):
    """A row of zeros."""

    kind: Literal["zero"]


def _row_source(value: object) -> object:
    if isinstance(value, TokenRow | ZeroRow | ModelRef):
        return value
    if not isinstance(value, Mapping) or "kind" not in value:
        return ModelRef.parse(cast("object", value))
    given = cast("Mapping[str, object]", value)
    kind = given["kind"]
    if kind not in ("model_token", "zero"):
        raise misfit("kind: model_token, or kind: zero", kind)
    return (TokenRow if kind == "model_token" else ZeroRow).model_validate(given)


RowSource = Annotated[TokenRow | ZeroRow | ModelRef, BeforeValidator(_row_source)]


class TokenRule(Block):
    """Where the row of one token comes from.

    Attributes:
        source: A model (its row of the token), one row of a model, or zeros.
        force: Every model gets this row, not only those that lack the token.
    """

    source: RowSource
    force: bool = False


def _vocabulary(value: object) -> object:
    return value if value in ("union", "base") else ModelRef.parse(value)


VocabularySource = Annotated[Literal["union", "base"] | ModelRef, BeforeValidator(_vocabulary)]


class TokenizerSpec(Block):
    """The result's vocabulary.

    Attributes:
        source: `union` of all models' tokens, the base's ids first; `base`; or the tokenizer of a model.
        tokens: Rules for single tokens; names that no tokenizer has are added.
        pad_to_multiple_of: Rows are added until their number is divisible by it.
    """

    source: VocabularySource = "union"
    tokens: dict[Text, TokenRule] = Field(default_factory=dict)
    pad_to_multiple_of: Annotated[Whole, Field(ge=1)] | None = None

    def models(self) -> tuple[ModelRef, ...]:
        """Models that are named here."""
        named = [self.source] if isinstance(self.source, ModelRef) else []
        for rule in self.tokens.values():
            if isinstance(rule.source, ModelRef):
                named.append(rule.source)
            elif isinstance(rule.source, TokenRow):
                named.append(rule.source.model)
        return tuple(dict.fromkeys(named))

    def located(self, folder: Any) -> TokenizerSpec:
        """With local paths made absolute; see `ModelRef.relative_to`."""
        rules: dict[str, TokenRule] = {}
        for token, rule in self.tokens.items():
            source = rule.source
            if isinstance(source, ModelRef):
                source = source.relative_to(folder)
            elif isinstance(source, TokenRow):
                source = source.model_copy(update={"model": source.model.relative_to(folder)})
            rules[token] = rule.model_copy(update={"source": source})
        own = self.source.relative_to(folder) if isinstance(self.source, ModelRef) else self.source
        return self.model_copy(update={"source": own, "tokens": rules})

    def plain(self) -> dict[str, Any]:
        """For YAML."""
        plain: dict[str, Any] = {"source": self.source.plain() if isinstance(self.source, ModelRef) else self.source}
        if self.tokens:
            plain["tokens"] = {token: _plain_rule(rule) for token, rule in self.tokens.items()}
        if self.pad_to_multiple_of is not None:
            plain["pad_to_multiple_of"] = self.pad_to_multiple_of
        return plain


def _plain_rule(rule: TokenRule) -> dict[str, Any]:
    if isinstance(rule.source, ModelRef):
        source: Any = rule.source.plain()
    elif isinstance(rule.source, TokenRow):
        source = {"kind": "model_token", "model": rule.source.model.plain()}
        source |= {"token": rule.source.token} if rule.source.token is not None else {"token_id": rule.source.token_id}
    else:
        source = {"kind": "zero"}
    return {"source": source} | ({"force": True} if rule.force else {})

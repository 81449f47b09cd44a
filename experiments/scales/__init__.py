"""The same data in every form that users bring: right numbers or a refusal."""

"""The policy file: from YAML to a frozen `Policy`, with every problem at its place.

    read         text → plain data and `path → line, column`; refuses what is unsafe or ambiguous
    shape        JSON Schema of the envelope (`schema.json`), then of each provider, probe, step
    references   names that lead nowhere, shares that do not sum to 100, passwords in URLs
    expressions  conditions (CEL) and opening hours, with the place inside the text
    build        data → `Policy`: defaults and units
    rules        what a schema cannot say; `figures` holds the arithmetic, `dates` what lapses
    load         `check` (all problems), `load` (or PolicyError), `load_quick` (stamped files)
    conditions   `Condition`: compile and evaluate; the only user of the CEL library
    calendars    `Hours`, `blocked`
    find         which file; `stamp`: that it was valid before; `starter`: a first one to edit

A stage works on what the one before let through: shape, references and expressions all look at
plain data of any shape, so that one run reports everything; `build` and `rules` see sound data.
"""

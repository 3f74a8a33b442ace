"""Who is who and who signed what: identities, roster, ledger, receipts."""

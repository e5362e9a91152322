-- A transaction token may outlive its subject token (draft-ietf-oauth-transaction-tokens).
CREATE OR REPLACE TEMP MACRO is_txn_token(token_type) AS coalesce(
    ends_with(token_type, 'txn_token') OR ends_with(token_type, 'txn-token'), false)

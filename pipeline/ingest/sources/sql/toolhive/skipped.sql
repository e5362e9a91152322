-- A step whose condition did not hold was never called.
SELECT part, 'a workflow step that did not run' AS reason
FROM records
WHERE r.type = 'vmcp_workflow_step_skipped'

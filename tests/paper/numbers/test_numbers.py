"""The numbers of everything but the studies."""

import dataclasses

import pytest

from paper import numbers
from paper.numbers import audit, cost, execution
from records import RecordError
from tests.paper import small
from tests.paper.small import audit_record, execution_records, of_study, theory_records


def test_numbers_come_from_the_records(macros):
    assert (macros["QuickLowestLoss"], macros["QuickHighestLoss"]) == ("0.900", "2.000")
    assert macros["QuickBadamInnerSteps"] == "2"
    assert (macros["TheoryChecks"], macros["TheoryResolved"]) == (r"2\,000", r"1\,800")
    assert macros["AdversaryInstances"] == r"12\,345"
    assert (macros["AdversaryMutants"], macros["AdversaryLooseSurvivors"]) == ("3", "1")
    assert macros["QuickBytesVerdict"] == "agree to the byte"
    assert (macros["TheoryAuditSteps"], macros["TheoryAuditRatios"]) == ("200 and 1000", "1.50 and 7.12")
    assert (macros["TheoryAuditCorollaryRatio"], macros["TheoryAuditRandom"]) == ("11.2", "4")
    assert macros["TheoryAuditRandomResolved"] == "4"
    assert macros["TheoryAuditRandomRatio"] == "0.250"
    assert all(name.isalpha() for name in macros)


def test_the_study_of_cost_in_numbers():
    found = cost.numbers(of_study("cost"), of_study("cost_predicted"))
    assert found["CostOverReference"] == "2.00"
    assert found["CostKeepTokens"] == "32\\,768", "8,192 tokens in half of half a second"
    assert found["CostKeepShare"] == "40", "1e14 FLOPs at 5e14 a second are 0.2 s"
    assert found["CostPredictionError"] == "5.0"
    assert found["CostRate"] == "500"
    ratios = {"OverLora": "2.00", "FloatOverReference": "2.00", "FloatOverKeep": "1.00", "FusedOverKeep": "1.00"}
    ratios |= {"SmallFusedOverReference": "2.00", "CardFusedOverReferenceSmall": "2.00", "CardOverReference": "2.00"}
    assert {name: found[f"Cost{name}"] for name in ratios} == ratios
    assert found["CostSmallTokens"] == "8\\,192", "2,048 tokens in a quarter of a second"


def test_the_other_card_in_numbers():
    found = cost.other_card(of_study("cost_h200"))
    assert found["CostOtherCard"] == "Z9"
    assert (found["CostOtherFusedOverReference"], found["CostOtherFusedShare"]) == ("2.00", "40")
    assert (found["CostOtherFusedOverLora"], found["CostOtherSmallFusedOverReference"]) == ("--", "--"), "not measured"
    assert (found["CostOtherReferenceShare"], found["CostOtherMostOverReference"]) == ("40", "2.50")


def test_the_study_of_execution_in_numbers():
    found = execution.numbers(execution_records())
    assert found["ExecutionOffLosses"] == "1.000, 1.500"
    assert (found["ExecutionOnDifference"], found["ExecutionFloatDifference"]) == ("0.020", "0.100")
    assert found["ExecutionSeedDifference"] == "0.500"
    assert (found["ExecutionOnVerdict"], found["ExecutionFloatVerdict"]) == ("less than", "less than")
    far = [record for record in execution_records() if record.name != "seed1-executionplain"]
    assert execution.numbers(far)["ExecutionOnVerdict"] == "more than", "one seed has no spread"
    fewer = execution.numbers(execution_records()[:5])
    assert (fewer["ExecutionFloatLosses"], fewer["ExecutionFloatDifference"]) == ("1.100", "0.100"), (
        "the seeds of both"
    )


def test_the_audit_refuses_records_that_say_something_else_than_the_text():
    records = theory_records()
    with pytest.raises(RecordError, match="no finished record of badam_d5_printed-quadratic-quick"):
        audit.numbers(records[:-1])
    for false in (
        audit_record("d4", "bilinear", [200], [0.5]),
        audit_record("d5", "bilinear", [1], [0.5]),
        audit_record("d4", "quadratic", [1], [1.5]),
    ):
        changed = [false if record.name == false.name else record for record in records]
        with pytest.raises(RecordError, match="they do not"):
            audit.numbers(changed)


def test_a_difference_between_predicted_and_measured_bytes_is_said(theory):
    first, *others = small.quick_records()
    measured = first.measurements | {"measured_bytes": small.BYTES | {"state": 801}}
    text = numbers.text(quick=[dataclasses.replace(first, measurements=measured), *others], **theory)
    assert "differ for at least one method" in text

"""The fakes of Amazon's services refuse what the services refuse although the SDK lets it pass, and
throttle like them. All through boto3 itself, not through ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.servers.awsarc import PANEL, PLAN, Cluster, RegionSwitch, Rule, control
from tests.servers.awsconnect import INSTANCE, REGIONS, Connect, uuid
from tests.servers.awsfake import Service
from tests.servers.awsroute53 import Route53
from tests.servers.awswire import Cbor, to_cbor

SESSION = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b")


def client(service: Service, region: str = REGIONS[0]) -> Any:
    make: Any = SESSION.client
    return make(service.name, region_name=region, endpoint_url=service.url,
                config=Config(retries={"total_max_attempts": 1, "mode": "standard"}))


def refused(code: str, call: Any, **params: Any) -> str:
    """The message of the refusal."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    assert caught.value.response["Error"]["Code"] == code
    return str(caught.value.response["Error"]["Message"])


@pytest.fixture(scope="module")
def connect() -> Iterator[Connect]:
    with Connect() as fake:
        yield fake
        assert not fake.broken


@pytest.fixture(scope="module")
def route53() -> Iterator[Route53]:
    with Route53() as fake:
        fake.put("Z1", Name="a.example", Type="A", SetIdentifier="hq", Weight=1, TTL=60,
                 ResourceRecords=[{"Value": "192.0.2.1"}])
        yield fake
        assert not fake.broken


def spread(**parts: int) -> dict[str, Any]:
    return {"Distributions": [{"Region": name.replace("_", "-"), "Percentage": part}
                              for name, part in parts.items()]}


@pytest.mark.parametrize(("parts", "code", "word"), [
    ({"us_east_1": 101, "us_west_2": 0}, "InvalidParameterException", "101 is more than 100"),
    ({"us_east_1": 60, "us_west_2": 50}, "InvalidRequestException", "sum to 100"),
    ({"us_east_1": 55, "us_west_2": 45}, "InvalidRequestException", "steps of ten"),
    ({"us_east_1": 100}, "InvalidRequestException", "both Regions"),
    ({"us_east_1": 0, "eu_west_2": 100}, "InvalidRequestException", "both Regions"),
])
def test_connect_refuses_what_no_group_can_do(connect: Connect, parts: dict[str, int], code: str,
                                              word: str) -> None:
    """Each passes the SDK, and changes nothing."""
    group = connect.add_group(1)
    assert word in refused(code, client(connect).update_traffic_distribution, Id=group,
                           TelephonyConfig=spread(**parts))
    assert connect.groups[uuid(1)]["calls"] == {"us-east-1": 100, "us-west-2": 0}


def test_connect_knows_a_group_by_its_arn_only_in_the_replicas_region(connect: Connect) -> None:
    """At home the id does; in the other Region it is not found."""
    connect.add_group(2)
    client(connect).get_traffic_distribution(Id=uuid(2))
    west = client(connect, REGIONS[1])
    refused("ResourceNotFoundException", west.get_traffic_distribution, Id=uuid(2))
    west.get_traffic_distribution(Id=Connect.arn(uuid(2)))


def test_connect_has_sign_in_for_the_default_group_only(connect: Connect) -> None:
    """And wants the group ACTIVE, and telephony in every update."""
    plain, default = connect.add_group(3), connect.add_group(4, default=True)
    signs = {"Distributions": [{"Region": "us-east-1", "Enabled": False},
                               {"Region": "us-west-2", "Enabled": True}]}
    how = {"TelephonyConfig": spread(us_east_1=0, us_west_2=100), "SignInConfig": signs}
    update = client(connect).update_traffic_distribution
    assert "default" in refused("InvalidRequestException", update, Id=plain, **how)
    update(Id=default, **how)
    assert "required" in refused("InvalidRequestException", update, Id=plain,
                                 AgentConfig=spread(us_east_1=0, us_west_2=100))
    connect.groups[uuid(3)]["status"] = "UPDATE_IN_PROGRESS"
    refused("ResourceConflictException", update, Id=plain,
            TelephonyConfig=spread(us_east_1=0, us_west_2=100))


def test_what_the_model_does_not_know_is_refused(connect: Connect) -> None:
    """Enums and patterns are not the SDK's business, and unknown ids are nobody's."""
    calls = client(connect)
    refused("InvalidParameterException", calls.update_queue_status, InstanceId=INSTANCE,
            QueueId="q", Status="PAUSED")
    refused("InvalidParameterException", calls.get_traffic_distribution, Id="not-an-id")
    refused("ResourceNotFoundException", calls.associate_phone_number_contact_flow,
            InstanceId=INSTANCE, PhoneNumberId="p", ContactFlowId="f")


def test_route53_refuses_what_no_record_can_be(route53: Route53) -> None:
    """Weight 256, an unknown zone, a CREATE of what is there, a DELETE of what is not so."""
    record = {"Name": "a.example", "Type": "A", "SetIdentifier": "hq", "Weight": 1, "TTL": 60,
              "ResourceRecords": [{"Value": "192.0.2.1"}]}
    change = client(route53).change_resource_record_sets

    def one(action: str, **more: Any) -> dict[str, Any]:
        return {"HostedZoneId": more.pop("zone", "Z1"), "ChangeBatch": {"Changes": [
            {"Action": action, "ResourceRecordSet": {**record, **more}}]}}

    assert "256 is more than 255" in refused("InvalidInput", change, **one("UPSERT", Weight=256))
    refused("NoSuchHostedZone", change, **one("UPSERT", zone="Z2"))
    assert "already exists" in refused("InvalidChangeBatch", change, **one("CREATE"))
    assert "do not match" in refused("InvalidChangeBatch", change, **one("DELETE", Weight=2))
    assert route53.record("Z1", "a.example", "hq")["Weight"] == 1


def test_route53_does_a_batch_whole_or_not_at_all(route53: Route53) -> None:
    """The second change is refused, so the first is not done either."""
    good = {"Name": "a.example", "Type": "A", "SetIdentifier": "hq", "Weight": 9, "TTL": 60,
            "ResourceRecords": [{"Value": "192.0.2.1"}]}
    refused("InvalidChangeBatch", client(route53).change_resource_record_sets, HostedZoneId="Z1",
            ChangeBatch={"Changes": [
                {"Action": "UPSERT", "ResourceRecordSet": good},
                {"Action": "DELETE", "ResourceRecordSet": {**good, "SetIdentifier": "none"}}]})
    assert route53.record("Z1", "a.example", "hq")["Weight"] == 1


def test_a_cluster_shows_the_rule_that_said_no() -> None:
    """The refusal names it; overriding it is possible, and kept in the books."""
    with Cluster() as fake:
        fake.panels[PANEL] = {control(1): "On", control(2): "Off"}
        rule = f"{PANEL}/safetyrule/{1:016x}"
        fake.rules.append(Rule(rule, (control(1), control(2)), 1))
        update = client(fake).update_routing_control_states
        off = [{"RoutingControlArn": control(1), "RoutingControlState": "Off"}]
        assert rule in refused("ConflictException", update, UpdateRoutingControlStateEntries=off)
        update(UpdateRoutingControlStateEntries=off, SafetyRulesToOverride=[rule])
        assert fake.panels[PANEL][control(1)] == "Off" and fake.overridden == [[rule]]
        refused("ResourceNotFoundException", client(fake).list_routing_controls,
                ControlPanelArn=PANEL[:-1] + "f")
        assert not fake.broken


def test_region_switch_speaks_cbor_too() -> None:
    """The model's first protocol, although botocore takes the other one."""
    scope = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/arc-region-switch/aws4_request"
    with RegionSwitch() as fake:
        for plan, status in ((PLAN, 200), (PLAN[:-1] + "4", 404)):
            request = Request(
                f"{fake.url}/service/ArcRegionSwitch/operation/ListPlanExecutions",
                to_cbor({"planArn": plan}), method="POST",
                headers={"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor",
                         "Authorization": f"{scope}, SignedHeaders=host, Signature=0"})
            try:
                with urlopen(request, timeout=5) as reply:
                    seen, told = reply.status, Cbor(reply.read()).value()
            except HTTPError as error:
                seen, told = error.code, Cbor(error.read()).value()
            assert seen == status
            assert told == {"items": []} or told["__type"] == "ResourceNotFoundException"


def test_region_switch_keeps_tokens() -> None:
    """A repeated token gives the same execution; a second one is refused while it runs."""
    with RegionSwitch() as fake:
        start = client(fake, "us-west-2").start_plan_execution
        how = {"planArn": PLAN, "targetRegion": "us-west-2", "action": "activate",
               "mode": "graceful"}
        first = start(**how, clientToken="t1")["executionId"]
        assert start(**how, clientToken="t1")["executionId"] == first
        refused("ConflictException", start, **how, clientToken="t2")
        refused("IllegalStateException", client(fake).start_plan_execution, **how,
                clientToken="t3")
        listed = client(fake).list_plan_executions(planArn=PLAN)["items"]
        assert [each["executionId"] for each in listed] == [first]
        assert abs(listed[0]["startTime"].timestamp() - time.time()) < 60
        assert not fake.broken


def test_the_limit_is_five_at_once_and_two_a_second(connect: Connect) -> None:
    """The sixth call is refused with 429, and says nothing of when to come back."""
    group = connect.add_group(5)
    calls = client(connect)
    connect.throttle()
    try:
        for _ in range(5):
            calls.get_traffic_distribution(Id=group)
        with pytest.raises(ClientError) as caught:
            for _ in range(3):  # a slow machine may earn one more meanwhile
                calls.get_traffic_distribution(Id=group)
        meta = caught.value.response["ResponseMetadata"]
        assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
        assert meta["HTTPStatusCode"] == 429 and "retry-after" not in meta["HTTPHeaders"]
    finally:
        connect.throttle(False)


def test_an_unsigned_request_is_refused(connect: Connect) -> None:
    """Nothing is answered to nobody."""
    with pytest.raises(HTTPError, match="403"):
        urlopen(f"{connect.url}/traffic-distribution/{uuid(1)}", timeout=5)

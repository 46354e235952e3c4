from __future__ import annotations

from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from annotator.api import views

app_name = "api"
urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(url_name="api:schema"), name="docs"),
    path("v1/token/", views.TokenView.as_view(), name="token"),
    path("v1/campaigns/", views.CampaignListView.as_view(), name="campaigns"),
    path("v1/campaigns/<slug:slug>/next/", views.NextView.as_view(), name="next"),
    path("v1/campaigns/<slug:slug>/progress/", views.ProgressView.as_view(), name="progress"),
    path("v1/campaigns/<slug:slug>/datasets/", views.DatasetListView.as_view(), name="datasets"),
    path(
        "v1/campaigns/<slug:slug>/datasets/<int:number>/records/",
        views.DatasetRecordsView.as_view(),
        name="dataset_records",
    ),
    path("v1/campaigns/<slug:slug>/guideline/", views.GuidelineView.as_view(), name="guideline"),
    path("v1/campaigns/<slug:slug>/figures/", views.FiguresView.as_view(), name="figures"),
    path("v1/assignments/<uuid:assignment>/", views.AssignmentView.as_view(), name="assignment"),
    path("v1/assignments/<uuid:assignment>/acts/", views.ActsView.as_view(), name="acts"),
    path("v1/assignments/<uuid:assignment>/submit/", views.SubmitView.as_view(), name="submit"),
    path("v1/assignments/<uuid:assignment>/return/", views.ReturnView.as_view(), name="return"),
    path("v1/assignments/<uuid:assignment>/lease/", views.LeaseView.as_view(), name="lease"),
    path("v1/assignments/<uuid:assignment>/candidates/", views.CandidatesView.as_view(), name="candidates"),
    path("v1/me/keys/", views.KeysView.as_view(), name="keys"),
]
